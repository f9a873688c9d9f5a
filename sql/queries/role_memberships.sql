-- A role and all roles it is a member of, as an array.
-- {role}  oid
array(
    with recursive held (oid) as (
        select {role}
        union
        select joined.roleid
        from held as one
        join pg_catalog.pg_auth_members as joined on joined.member = one.oid
    )
    select one.oid from held as one
)
