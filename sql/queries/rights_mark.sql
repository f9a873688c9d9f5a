-- A number that changes with whatever decides what a role may read of a table: the table, its schema, its columns and its
-- policies as they are, the role's attributes, and what it is a member of.
-- Its names are its own, so that those of the statement around it may stand in its places.
-- {table}  oid
-- {role}   oid
select pg_catalog.hashtextextended(
    pg_catalog.concat_ws(
        '/',
        (
            select pg_catalog.concat_ws(' ', own.xmin, home.oid, home.xmin)
            from pg_catalog.pg_class as own
            join pg_catalog.pg_namespace as home on home.oid = own.relnamespace
            where own.oid = {table}
        ),
        (
            select pg_catalog.string_agg(pg_catalog.concat_ws(' ', rule.oid, rule.xmin), ',' order by rule.oid)
            from pg_catalog.pg_policy as rule
            where rule.polrelid = {table}
        ),
        (
            select pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.sum(part.xmin::text::bigint))
            from pg_catalog.pg_attribute as part
            where part.attrelid = {table} and part.attnum > 0
        ),
        (
            select pg_catalog.concat_ws(' ', who.rolsuper, who.rolbypassrls, who.rolinherit)
            from pg_catalog.pg_roles as who
            where who.oid = {role}
        ),
        (
            with recursive held (oid) as (
                select {role}
                union
                select joined.roleid
                from held as one
                join pg_catalog.pg_auth_members as joined on joined.member = one.oid
            )
            select pg_catalog.string_agg(pg_catalog.concat_ws(' ', joined.roleid, joined.member, joined.xmin, middle.rolinherit), ',' order by joined.roleid, joined.member, joined.xmin::text)
            from held as one
            join pg_catalog.pg_auth_members as joined on joined.member = one.oid
            join pg_catalog.pg_roles as middle on middle.oid = one.oid
        ),
        -- Its owner is a member of pg_database_owner.
        (
            select base.datdba
            from pg_catalog.pg_database as base
            where base.datname = pg_catalog.current_database()
        )),
    0)
