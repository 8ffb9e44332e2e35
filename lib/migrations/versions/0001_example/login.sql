-- Logging in and registering, for a role that may read no hash. The application computes the Argon2 hash
-- of a password with the parameters and salt that `begin_login` returns; the comparison is made here.

-- Counts a try; returns the seconds until the next is allowed, NULL if this one is. Old counts are cleared
-- by later tries, some at a time.
CREATE FUNCTION count_attempt(of text, at_most integer) RETURNS float LANGUAGE sql AS $$
    WITH cleared AS (
        DELETE FROM attempts WHERE digest IN (
            SELECT digest FROM attempts
            WHERE since < now() - interval '15 minutes' AND digest <> sha256(convert_to(of, 'UTF8'))
            ORDER BY since LIMIT 10 FOR UPDATE SKIP LOCKED
        )
    ), counted AS (
        INSERT INTO attempts (digest, count, since) VALUES (sha256(convert_to(of, 'UTF8')), 1, now())
        ON CONFLICT (digest) DO UPDATE SET
            count = CASE WHEN attempts.since < now() - interval '15 minutes' THEN 1 ELSE attempts.count + 1 END,
            since = CASE WHEN attempts.since < now() - interval '15 minutes' THEN now() ELSE attempts.since END
        RETURNING count, since
    )
    SELECT extract(epoch FROM since + interval '15 minutes' - now())::float FROM counted WHERE count > at_most
$$;

CREATE FUNCTION named(name text) RETURNS SETOF users LANGUAGE sql STABLE AS $$
    SELECT * FROM users WHERE lower(username) = lower(name) OR lower(email) = lower(name)
$$;

-- Counted before the password is looked at, by name and network together: ten wrong tries in a quarter of an
-- hour close a name for the network that they came from, and for no other.
CREATE FUNCTION begin_login(name text, network text) RETURNS TABLE (wait_seconds float, salted text)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT count_attempt('login ' || network || ' ' || lower(name), 10),
           (SELECT regexp_replace(password_hash, '[^$]*$', '') FROM named(name))
$$;

-- The id of the person, if they are active and the hash is theirs; `renewed` replaces a hash of old parameters.
CREATE FUNCTION finish_login(name text, network text, computed text, renewed text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    person users;
BEGIN
    SELECT * INTO person FROM named(name);
    PERFORM set_config('app.caller_network', network, true);
    IF person.id IS NULL OR NOT person.is_active OR person.password_hash IS DISTINCT FROM computed THEN
        PERFORM record('login refused', person.id, jsonb_build_object('name', left(name, 50)));
        RETURN NULL;
    END IF;
    IF renewed IS NOT NULL THEN
        UPDATE users SET password_hash = renewed WHERE id = person.id;
    END IF;
    DELETE FROM attempts WHERE digest = sha256(convert_to('login ' || network || ' ' || lower(name), 'UTF8'));
    PERFORM record('login', person.id, NULL, person.id);
    RETURN person.id;
END $$;

-- Seconds until this network may register again, NULL if it may now.
CREATE FUNCTION begin_registration(network text) RETURNS float
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ SELECT count_attempt('register ' || network, 100) $$;

-- A person who logs in here, by a password, or elsewhere, as the subject of the transaction's caller.
CREATE FUNCTION add_user(username text, email text, password_hash text)
    RETURNS TABLE (id bigint, created_at timestamptz)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO users (username, email, password_hash, subject)
    VALUES (username, email, password_hash, nullif(current_setting('app.caller_subject', true), ''))
    RETURNING id, created_at
$$;

CREATE FUNCTION begin_password_change() RETURNS TABLE (wait_seconds float, salted text)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT count_attempt('password ' || caller_id(), 10),
           (SELECT regexp_replace(password_hash, '[^$]*$', '') FROM users WHERE id = caller_id())
$$;

-- Whether the password was changed: by its owner, who knows the one of before, or by an administrator.
-- Tokens of before are refused from now on, but for those of the last seconds: clocks differ.
CREATE FUNCTION change_password(person bigint, computed text, new_hash text) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH changed AS (
        UPDATE users SET password_hash = new_hash, tokens_since = now() - interval '5 seconds'
        WHERE id = person AND CASE WHEN id = caller_id() THEN password_hash = computed
            ELSE EXISTS (SELECT FROM users WHERE id = caller_id() AND role = 'admin' AND is_active) END
        RETURNING id
    ) SELECT EXISTS (SELECT FROM changed)
$$;

REVOKE ALL ON FUNCTION count_attempt, named, begin_login, finish_login, begin_registration, add_user,
    begin_password_change, change_password FROM PUBLIC;
GRANT EXECUTE ON FUNCTION begin_login, finish_login, begin_registration, add_user,
    begin_password_change, change_password TO app_caller;
