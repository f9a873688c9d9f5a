-- The statement that sets a role's password; a password cannot be a parameter of it.
-- $1 text: the role
-- $2 text: the password
select format('alter role %I password %L', $1::text, $2::text) as statement
