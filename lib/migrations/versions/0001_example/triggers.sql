-- A row's version and time of change follow from its content: a change that changes nothing leaves both.
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW IS DISTINCT FROM OLD THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := now();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER users_touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER posts_touch BEFORE UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER tags_touch BEFORE UPDATE ON tags FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER tasks_touch BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER accounts_touch BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION touch();

-- A task shows its tags' names, so it changes with them.
CREATE FUNCTION touch_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tasks SET version = version + 1 WHERE id IN (SELECT task_id FROM task_tags WHERE tag_id = OLD.id);
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER tags_touch_tasks BEFORE DELETE ON tags FOR EACH ROW EXECUTE FUNCTION touch_tasks();
CREATE TRIGGER tags_rename_touch_tasks BEFORE UPDATE OF name ON tags FOR EACH ROW
    WHEN (NEW.name <> OLD.name) EXECUTE FUNCTION touch_tasks();

-- A policy cannot tell which columns of a row were changed.
CREATE FUNCTION refuse_self_promotion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_user = 'app_caller' AND NOT caller_is('admin') THEN
        RAISE insufficient_privilege USING MESSAGE = 'only administrators change role, activity and subject';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER users_promotion BEFORE UPDATE ON users FOR EACH ROW
    WHEN ((NEW.role, NEW.is_active, NEW.subject) IS DISTINCT FROM (OLD.role, OLD.is_active, OLD.subject))
    EXECUTE FUNCTION refuse_self_promotion();

-- One after the other, so that no two administrators resign at once and each finds the other.
CREATE FUNCTION keep_an_administrator() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('administrators'));
    IF caller_id() IS NOT NULL
        AND NOT EXISTS (SELECT FROM users WHERE role = 'admin' AND is_active AND id <> OLD.id) THEN
        RAISE SQLSTATE 'U0409' USING MESSAGE = 'at least one administrator remains';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER users_last_administrator BEFORE DELETE ON users FOR EACH ROW
    WHEN (OLD.role = 'admin' AND OLD.is_active) EXECUTE FUNCTION keep_an_administrator();
CREATE TRIGGER users_last_administrator_resigns BEFORE UPDATE ON users FOR EACH ROW
    WHEN (OLD.role = 'admin' AND OLD.is_active AND (NEW.role <> 'admin' OR NOT NEW.is_active))
    EXECUTE FUNCTION keep_an_administrator();

-- Money does not vanish by its owner's mistake. An administrator who erases a person erases all of theirs.
CREATE FUNCTION keep_money() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.owner_id = caller_id() THEN
        RAISE SQLSTATE 'U0411' USING MESSAGE = 'there is money in the account';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER accounts_money BEFORE DELETE ON accounts FOR EACH ROW
    WHEN (OLD.balance > 0) EXECUTE FUNCTION keep_money();

-- The record: changes of rights, passwords and names; deleted people; what was deleted for its author.
CREATE FUNCTION record_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'posts' THEN
        PERFORM record('post deleted', OLD.author_id, jsonb_build_object('post', OLD.id));
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM record('user deleted', OLD.id, jsonb_build_object('role', OLD.role));
    ELSE
        PERFORM record('user changed', NEW.id, (
            SELECT jsonb_object_agg(key, CASE WHEN key = 'password_hash' THEN '"(new)"' ELSE value END)
            FROM jsonb_each(to_jsonb(NEW)) WHERE value IS DISTINCT FROM to_jsonb(OLD) -> key
                AND key NOT IN ('updated_at', 'version', 'tokens_since')));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER users_record AFTER UPDATE ON users FOR EACH ROW
    WHEN ((NEW.username, NEW.email, NEW.role, NEW.is_active, NEW.subject, NEW.password_hash) IS DISTINCT FROM
          (OLD.username, OLD.email, OLD.role, OLD.is_active, OLD.subject, OLD.password_hash))
    EXECUTE FUNCTION record_change();
CREATE TRIGGER users_record_deleted AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION record_change();
CREATE TRIGGER posts_record_deleted AFTER DELETE ON posts FOR EACH ROW
    WHEN (OLD.author_id IS DISTINCT FROM caller_id() AND pg_trigger_depth() = 0) EXECUTE FUNCTION record_change();
REVOKE ALL ON FUNCTION keep_an_administrator, record_change FROM PUBLIC;
