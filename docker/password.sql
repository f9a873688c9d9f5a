-- For the compose file only: sql/RELAY_ROLE.sql leaves the password to you.
alter role relay password 'relay';
