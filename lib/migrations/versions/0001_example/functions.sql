CREATE FUNCTION caller_is(VARIADIC roles text[]) RETURNS boolean LANGUAGE sql STABLE
    AS $$ SELECT coalesce(current_setting('app.caller_role', true) = ANY (roles), false) $$;

-- The people whose rows a caller reaches, as a range that an index serves: all for these roles, else oneself.
CREATE FUNCTION reach_from(VARIADIC roles text[]) RETURNS bigint LANGUAGE sql STABLE
    AS $$ SELECT CASE WHEN caller_is(VARIADIC roles) THEN 0 ELSE caller_id() END $$;
CREATE FUNCTION reach_to(VARIADIC roles text[]) RETURNS bigint LANGUAGE sql STABLE
    AS $$ SELECT CASE WHEN caller_is(VARIADIC roles) THEN 9223372036854775807 ELSE caller_id() END $$;

-- Sent ahead of everything that a caller does: refuses those who have no active account, one of another
-- role, or a token of before their password was changed. A subject (another service's name for the
-- caller) becomes the caller's id.
CREATE FUNCTION admit_caller(VARIADIC roles text[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
DECLARE
    given_subject text := nullif(current_setting('app.caller_subject', true), '');
    issued_at timestamptz := to_timestamp(nullif(current_setting('app.caller_token_at', true), '')::float);
    found_id bigint;
    found_role text;
BEGIN
    IF given_subject IS NULL THEN
        SELECT id, role INTO found_id, found_role FROM users
            WHERE id = caller_id() AND is_active AND (tokens_since IS NULL OR issued_at >= tokens_since);
    ELSE
        SELECT id, role INTO found_id, found_role FROM users WHERE subject = given_subject AND is_active;
        PERFORM set_config('app.caller_id', found_id::text, true);
    END IF;
    IF found_id IS NULL THEN
        RAISE SQLSTATE 'U0401' USING MESSAGE = 'the caller has no active account';
    ELSIF found_role <> ALL (roles) THEN
        RAISE SQLSTATE 'U0403' USING MESSAGE = 'the caller''s role does not suffice';
    END IF;
    PERFORM set_config('app.caller_role', found_role, true);
END $$;

CREATE FUNCTION record(action text, target_id bigint, detail jsonb DEFAULT NULL, actor_id bigint DEFAULT caller_id())
    RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO audit (action, actor_id, target_id, network, detail)
    VALUES (action, actor_id, target_id, nullif(current_setting('app.caller_network', true), ''), detail)
$$;

-- Moves money between two accounts. The caller's own pays; the payee's owner need not be known.
CREATE FUNCTION make_transfer(payer bigint, payee bigint, moved numeric) RETURNS SETOF transfers
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    available numeric;
    receiver bigint;
BEGIN
    -- One order for all transfers, so that no two wait for each other.
    PERFORM 1 FROM accounts WHERE id IN (payer, payee) ORDER BY id FOR NO KEY UPDATE;
    SELECT balance INTO available FROM accounts WHERE id = payer AND owner_id = caller_id();
    SELECT owner_id INTO receiver FROM accounts WHERE id = payee;
    IF available IS NULL OR receiver IS NULL THEN
        RAISE SQLSTATE 'U0422' USING MESSAGE = 'there is no such account';
    ELSIF available < moved THEN
        RAISE SQLSTATE 'U0402' USING MESSAGE = 'there is not enough money in the account';
    END IF;
    UPDATE accounts SET balance = balance + CASE WHEN id = payer THEN -moved ELSE moved END
        WHERE id IN (payer, payee);
    RETURN QUERY INSERT INTO transfers (owner_id, payee_id, from_account_id, to_account_id, amount)
        VALUES (caller_id(), receiver, payer, payee, moved) RETURNING *;
END $$;

REVOKE ALL ON FUNCTION record, make_transfer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_transfer TO app_caller;
