-- What returns rows of a table goes first; what its defaults, policies and triggers use goes last.
DROP FUNCTION make_transfer, named;
DROP TABLE transfers, accounts, task_tags, tasks, tags, posts, idempotency_keys, audit, attempts, users;
DROP FUNCTION admit_caller, record, record_change, keep_money, keep_an_administrator, refuse_self_promotion,
    touch_tasks, touch, change_password, begin_password_change, add_user, begin_registration, finish_login, begin_login,
    count_attempt, reach_from, reach_to, caller_is, random_id, caller_id;
DROP TYPE role, status, priority;
REVOKE ALL ON alembic_version FROM app_caller;
REVOKE ALL ON SCHEMA public FROM app_caller;
-- Another database of the server may still need the role.
DO $$
BEGIN
    DROP ROLE app_caller;
EXCEPTION WHEN dependent_objects_still_exist OR undefined_object OR insufficient_privilege THEN NULL;
END $$;
