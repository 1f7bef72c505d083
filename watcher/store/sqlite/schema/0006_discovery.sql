-- When discovery's very first answer came, by the best-known time: what had ended before is not tracked. Null: not known.
ALTER TABLE accounts ADD COLUMN discovery_began_at INTEGER;
