"""The core: values in, values out. No clock, no chance, no network, no file, no log; `now` and randomness are arguments."""
