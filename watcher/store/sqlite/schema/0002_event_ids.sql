-- Each event keeps an id of its own, a UUIDv7. The events of version 1 get theirs here, once: the time of the event in
-- milliseconds, the version 7, the variant (8, 9, a or b) and random digits.

ALTER TABLE events ADD COLUMN event_id TEXT NOT NULL DEFAULT '';  -- never left at its default

UPDATE events SET event_id =
    substr(printf('%012x', max(occurred_at, 0) / 1000), 1, 8)
    || '-' || substr(printf('%012x', max(occurred_at, 0) / 1000), 9, 4)
    || '-7' || substr(lower(hex(randomblob(2))), 1, 3)
    || '-' || substr('89ab', 1 + (random() & 3), 1) || substr(lower(hex(randomblob(2))), 1, 3)
    || '-' || lower(hex(randomblob(6)));
