-- An administrator who is no superuser, as managed services have them: may create roles, and create in the database and in public.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset footer off
\pset format unaligned
create role admin createrole createdb login;
create role stranger login;
grant create on database postgres to admin;
grant all on schema public to admin with grant option;
set session authorization admin;

\echo '# made'
\i sql/SUPABASE_COMPAT.sql
\i sql/RELAY_ROLE.sql
\i sql/ENABLE_REALTIME_CHAT.sql
\i :migrate

\echo '# a stranger takes nothing back'
set session authorization stranger;
\i sql/DISABLE_REALTIME_CHAT.sql
\i :undo_migrate
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
\i sql/UNDO_RELAY_ROLE.sql
\i sql/UNDO_SUPABASE_COMPAT.sql

\echo '# the administrator does'
set session authorization admin;
\i sql/DISABLE_REALTIME_CHAT.sql
\i sql/ENABLE_REALTIME_CHAT.sql
\i :undo_migrate
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
\i sql/UNDO_RELAY_ROLE.sql
\i sql/UNDO_SUPABASE_COMPAT.sql

\echo '# and the superuser takes back what the administrator made'
\o /dev/null
\i sql/SUPABASE_COMPAT.sql
\i sql/ENABLE_REALTIME_CHAT.sql
reset session authorization;
\i sql/ENABLE_REALTIME_CHAT.sql
\o
\i sql/UNDO_ENABLE_REALTIME_CHAT.sql
