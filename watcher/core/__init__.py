"""The core: values in, values out. No clock, chance, network, file or log; `now` and randomness are arguments."""
