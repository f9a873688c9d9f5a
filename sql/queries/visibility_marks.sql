-- What a judgement rests on besides the row, each as a value that changes with it.
-- {guard}     visibility_mark.sql of what the table's policies reach
-- {rights}    rights_mark.sql of the table and the role
-- {settings}  settings_mark.sql of the role
select ({guard}) as guard, ({rights}) as rights, ({settings}) as settings
