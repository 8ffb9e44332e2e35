-- The role that requests run as: it owns nothing, is a member of nothing, and every policy binds it.
-- Give it a password (ALTER ROLE app_caller LOGIN PASSWORD '...') and put it into DATABASE_URL; until
-- then an owner's connection gives up its rights for it in each transaction. Roles belong to the whole
-- server, so it may be there already.
DO $$
BEGIN
    CREATE ROLE app_caller NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOINHERIT;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$
BEGIN
    GRANT app_caller TO CURRENT_USER;
EXCEPTION WHEN insufficient_privilege THEN
    IF NOT pg_has_role(current_user, 'app_caller', 'MEMBER') THEN RAISE; END IF;
END $$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO app_caller;
-- Readiness compares the schema with the code.
GRANT SELECT ON alembic_version TO app_caller;
