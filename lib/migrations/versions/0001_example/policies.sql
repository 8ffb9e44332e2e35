-- FORCE binds the tables' owner too. It does not stand on what the functions above serve.
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
GRANT SELECT (id, username, email, role, is_active, subject, created_at, updated_at, version), DELETE,
    UPDATE (username, email, role, is_active, subject) ON users TO app_caller;
CREATE POLICY users_read ON users FOR SELECT TO app_caller
    USING (id BETWEEN reach_from('admin', 'moderator') AND reach_to('admin', 'moderator'));
CREATE POLICY users_update ON users FOR UPDATE TO app_caller
    USING (id BETWEEN reach_from('admin') AND reach_to('admin'));
CREATE POLICY users_delete ON users FOR DELETE TO app_caller
    USING (id BETWEEN reach_from('admin') AND reach_to('admin'));

ALTER TABLE attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit ENABLE ROW LEVEL SECURITY;

ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO app_caller;
CREATE POLICY idempotency_keys_own ON idempotency_keys TO app_caller USING (owner_id = caller_id());

ALTER TABLE posts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE, UPDATE (title, content) ON posts TO app_caller;
CREATE POLICY posts_insert ON posts FOR INSERT TO app_caller WITH CHECK (author_id = caller_id());
CREATE POLICY posts_update ON posts FOR UPDATE TO app_caller USING (author_id = caller_id());
CREATE POLICY posts_read ON posts FOR SELECT TO app_caller
    USING (author_id BETWEEN reach_from('admin', 'moderator') AND reach_to('admin', 'moderator'));
CREATE POLICY posts_delete ON posts FOR DELETE TO app_caller
    USING (author_id BETWEEN reach_from('admin', 'moderator') AND reach_to('admin', 'moderator'));

ALTER TABLE tags ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE, UPDATE (name) ON tags TO app_caller;
CREATE POLICY tags_own ON tags TO app_caller USING (owner_id = caller_id());

ALTER TABLE tasks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE, UPDATE (title, description, status, priority, due_at, completed_at, version)
    ON tasks TO app_caller;
CREATE POLICY tasks_own ON tasks TO app_caller USING (owner_id = caller_id());

ALTER TABLE task_tags ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE ON task_tags TO app_caller;
CREATE POLICY task_tags_own ON task_tags TO app_caller USING (owner_id = caller_id());

-- A balance changes by `make_transfer` only.
ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE, UPDATE (name) ON accounts TO app_caller;
CREATE POLICY accounts_own ON accounts TO app_caller USING (owner_id = caller_id());

ALTER TABLE transfers ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON transfers TO app_caller;
CREATE POLICY transfers_own ON transfers FOR SELECT TO app_caller
    USING (owner_id = caller_id() OR payee_id = caller_id());
