-- What a judgement rests on besides the row, each as a value that changes with it.
-- {guard}     visibility_mark.sql of what the table's policies reach
-- {rights}    rights_mark.sql of the table and the role
-- {settings}  settings_mark.sql of the role
-- {role}      the oid of the role that has the name the connection was opened for
select
    ({guard}) as guard,
    ({rights}) as rights,
    ({settings}) as settings,
    -- Who the connection acts as: nobody else, and not one of that name that is gone.
    pg_catalog.concat_ws(' ', pg_catalog.current_setting('role'), {role}) as identity
