-- Which API key last showed an operation of the account, where no account id says whose the key is.

ALTER TABLE accounts ADD COLUMN api_key TEXT;
