-- What the Postgres store keeps in its schema, and its verbs: one function each, called in one statement of its own.
--
-- {schema} is replaced by the schema's name. "--- 1" begins the first migration; the number is what schema_version then says.
-- Migrations only add: a process with an older Lamella goes on working beside a newer one. A verb first takes the advisory
-- locks of its keys (in one order, so that no two wait for each other), then asks what time it is, then looks and decides. That
-- is right in READ COMMITTED, where every statement inside a function sees what is committed by then.

--- 1
CREATE SEQUENCE {schema}.numbers;

CREATE TABLE {schema}.items (
    namespace text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    name bytea,          -- the key itself, where it is too long for an index and key is its hash
    value bytea NOT NULL,
    version bigint NOT NULL,
    list bytea,
    until double precision,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX items_until ON {schema}.items (until) WHERE until IS NOT NULL;
CREATE INDEX items_list ON {schema}.items (namespace, list, version) WHERE list IS NOT NULL;

CREATE TABLE {schema}.counters (
    namespace text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    value bigint NOT NULL,
    number bigint NOT NULL,
    until double precision,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX counters_until ON {schema}.counters (until) WHERE until IS NOT NULL;

CREATE TABLE {schema}.buckets (
    namespace text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    level double precision NOT NULL,
    since double precision NOT NULL,
    until double precision,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX buckets_until ON {schema}.buckets (until) WHERE until IS NOT NULL;

CREATE TABLE {schema}.leases (
    namespace text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    token bigint NOT NULL,
    until double precision NOT NULL,
    PRIMARY KEY (namespace, key, token)
);
CREATE INDEX leases_until ON {schema}.leases (until);

CREATE TABLE {schema}.logs (
    namespace text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    last bigint NOT NULL,
    until double precision,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX logs_until ON {schema}.logs (until) WHERE until IS NOT NULL;

CREATE TABLE {schema}.entries (
    namespace text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    position bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (namespace, key, position)
);

CREATE FUNCTION {schema}.now_s() RETURNS double precision LANGUAGE sql VOLATILE AS
$$ SELECT extract(epoch FROM clock_timestamp())::double precision $$;

CREATE FUNCTION {schema}.write(
    p_namespace text, p_key bytea, p_name bytea, p_value bytea, p_expire double precision, p_list bytea
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now double precision := {schema}.now_s();
    v_list bytea := p_list;
    v_version bigint;
BEGIN
    IF v_list IS NULL THEN
        SELECT list INTO v_list FROM {schema}.items
        WHERE namespace = p_namespace AND key = p_key AND (until IS NULL OR until > v_now);
    END IF;
    IF v_list IS NOT NULL THEN  -- versions become visible in their order, so that nobody who reads on misses one
        PERFORM pg_advisory_xact_lock(hashtextextended('{schema}:' || p_namespace || ':' || encode(v_list, 'hex'), 0));
    END IF;
    v_version := nextval('{schema}.numbers');
    INSERT INTO {schema}.items (namespace, key, name, value, version, list, until)
    VALUES (p_namespace, p_key, p_name, p_value, v_version, v_list, v_now + p_expire)
    ON CONFLICT (namespace, key) DO UPDATE
    SET value = excluded.value, version = excluded.version, list = excluded.list, until = excluded.until;
    RETURN v_version;
END $$;

CREATE FUNCTION {schema}.put(
    p_lock bigint, p_namespace text, p_key bytea, p_name bytea, p_value bytea, p_expire double precision, p_list bytea
) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    RETURN {schema}.write(p_namespace, p_key, p_name, p_value, p_expire, p_list);
END $$;

CREATE FUNCTION {schema}.put_if_absent(
    p_lock bigint, p_namespace text, p_key bytea, p_name bytea, p_value bytea, p_expire double precision, p_list bytea,
    OUT value bytea, OUT version bigint
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    SELECT i.value, i.version INTO value, version FROM {schema}.items i
    WHERE i.namespace = p_namespace AND i.key = p_key AND (i.until IS NULL OR i.until > {schema}.now_s());
    IF version IS NULL THEN
        PERFORM {schema}.write(p_namespace, p_key, p_name, p_value, p_expire, p_list);
    END IF;
END $$;

CREATE FUNCTION {schema}.compare_and_put(
    p_lock bigint, p_namespace text, p_key bytea, p_name bytea, p_value bytea, p_expire double precision, p_list bytea,
    p_version bigint
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_found bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    SELECT version INTO v_found FROM {schema}.items
    WHERE namespace = p_namespace AND key = p_key AND (until IS NULL OR until > {schema}.now_s());
    IF coalesce(v_found, 0) <> p_version THEN
        RETURN NULL;
    END IF;
    RETURN {schema}.write(p_namespace, p_key, p_name, p_value, p_expire, p_list);
END $$;

CREATE FUNCTION {schema}.remove(p_lock bigint, p_namespace text, p_key bytea, p_version bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    DELETE FROM {schema}.items
    WHERE namespace = p_namespace AND key = p_key AND (until IS NULL OR until > {schema}.now_s())
        AND (p_version IS NULL OR version = p_version);
    RETURN FOUND;
END $$;

-- p_locks are in ascending order; the other arrays belong together by their index.
CREATE FUNCTION {schema}.add_all(
    p_locks bigint[], p_namespace text, p_keys bytea[], p_amounts bigint[], p_ceilings bigint[], p_expires double precision[],
    p_windows bigint[]
) RETURNS TABLE (value bigint, added boolean, left_s double precision, number bigint, fits boolean) LANGUAGE plpgsql AS $$
DECLARE
    v_lock bigint;
    v_now double precision;
    v_row record;
    v_values bigint[];
    v_numbers bigint[];
    v_untils double precision[];
    v_over boolean[];
    v_ended boolean[];
    v_all_fit boolean := true;
BEGIN
    FOREACH v_lock IN ARRAY p_locks LOOP
        PERFORM pg_advisory_xact_lock(v_lock);
    END LOOP;
    v_now := {schema}.now_s();
    FOR at IN 1 .. cardinality(p_keys) LOOP
        SELECT c.value, c.number, c.until INTO v_row FROM {schema}.counters c
        WHERE c.namespace = p_namespace AND c.key = p_keys[at] AND (c.until IS NULL OR c.until > v_now);
        v_values[at] := coalesce(v_row.value, 0);
        v_numbers[at] := coalesce(v_row.number, 0);
        v_untils[at] := v_row.until;
        v_ended[at] := coalesce(p_windows[at] <> v_numbers[at], false);
        v_over[at] := NOT v_ended[at] AND p_amounts[at] > 0 AND coalesce(v_values[at] + p_amounts[at] > p_ceilings[at], false);
        v_all_fit := v_all_fit AND NOT v_over[at];
    END LOOP;
    FOR at IN 1 .. cardinality(p_keys) LOOP
        added := v_all_fit AND NOT v_ended[at];
        IF added AND v_numbers[at] > 0 THEN
            v_values[at] := greatest(0, v_values[at] + p_amounts[at]);
            UPDATE {schema}.counters c SET value = v_values[at] WHERE c.namespace = p_namespace AND c.key = p_keys[at];
        ELSIF added AND p_amounts[at] > 0 THEN
            v_values[at] := p_amounts[at];
            v_numbers[at] := nextval('{schema}.numbers');
            v_untils[at] := v_now + p_expires[at];
            INSERT INTO {schema}.counters AS c (namespace, key, value, number, until)
            VALUES (p_namespace, p_keys[at], v_values[at], v_numbers[at], v_untils[at])
            ON CONFLICT (namespace, key) DO UPDATE
            SET value = excluded.value, number = excluded.number, until = excluded.until;
        END IF;
        value := v_values[at];
        left_s := v_untils[at] - v_now;
        number := v_numbers[at];
        fits := NOT v_over[at];
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION {schema}.reset(p_lock bigint, p_namespace text, p_key bytea) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_value bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    DELETE FROM {schema}.counters
    WHERE namespace = p_namespace AND key = p_key
    RETURNING CASE WHEN until IS NULL OR until > {schema}.now_s() THEN value END INTO v_value;
    RETURN coalesce(v_value, 0);
END $$;

CREATE FUNCTION {schema}.level_of(
    p_namespace text, p_key bytea, p_rate double precision, p_burst double precision, p_now double precision
) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    v_level double precision;
BEGIN
    SELECT level + greatest(0, p_now - since) * p_rate INTO v_level FROM {schema}.buckets
    WHERE namespace = p_namespace AND key = p_key;
    RETURN least(p_burst, coalesce(v_level, p_burst));
END $$;

-- A full bucket is as good as none.
CREATE FUNCTION {schema}.fill(
    p_namespace text, p_key bytea, p_rate double precision, p_burst double precision, p_level double precision,
    p_now double precision
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_level >= p_burst THEN
        DELETE FROM {schema}.buckets WHERE namespace = p_namespace AND key = p_key;
    ELSE
        INSERT INTO {schema}.buckets (namespace, key, level, since, until)
        VALUES (
            p_namespace, p_key, p_level, p_now, CASE WHEN p_rate > 0 THEN p_now + (p_burst - p_level) / p_rate END
        )
        ON CONFLICT (namespace, key) DO UPDATE
        SET level = excluded.level, since = excluded.since, until = excluded.until;
    END IF;
END $$;

CREATE FUNCTION {schema}.take(
    p_locks bigint[], p_namespace text, p_keys bytea[], p_rates double precision[], p_bursts double precision[],
    p_amounts double precision[], p_max_wait double precision, OUT granted boolean, OUT wait_s double precision
) LANGUAGE plpgsql AS $$
DECLARE
    v_lock bigint;
    v_now double precision;
    v_levels double precision[];
BEGIN
    FOREACH v_lock IN ARRAY p_locks LOOP
        PERFORM pg_advisory_xact_lock(v_lock);
    END LOOP;
    v_now := {schema}.now_s();
    wait_s := 0;
    FOR at IN 1 .. cardinality(p_keys) LOOP
        v_levels[at] := {schema}.level_of(p_namespace, p_keys[at], p_rates[at], p_bursts[at], v_now);
        IF p_amounts[at] > v_levels[at] + 1e-9 * p_bursts[at] THEN
            IF p_amounts[at] > p_bursts[at] OR p_rates[at] <= 0 THEN
                wait_s := 'Infinity';
            ELSE
                wait_s := greatest(wait_s, (p_amounts[at] - v_levels[at]) / p_rates[at]);
            END IF;
        END IF;
    END LOOP;
    granted := wait_s <= p_max_wait AND wait_s < 'Infinity';
    IF granted THEN
        FOR at IN 1 .. cardinality(p_keys) LOOP
            PERFORM {schema}.fill(p_namespace, p_keys[at], p_rates[at], p_bursts[at], v_levels[at] - p_amounts[at], v_now);
        END LOOP;
    END IF;
END $$;

CREATE FUNCTION {schema}.settle(
    p_locks bigint[], p_namespace text, p_keys bytea[], p_rates double precision[], p_bursts double precision[],
    p_amounts double precision[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_lock bigint;
    v_now double precision;
    v_level double precision;
BEGIN
    FOREACH v_lock IN ARRAY p_locks LOOP
        PERFORM pg_advisory_xact_lock(v_lock);
    END LOOP;
    v_now := {schema}.now_s();
    FOR at IN 1 .. cardinality(p_keys) LOOP
        v_level := {schema}.level_of(p_namespace, p_keys[at], p_rates[at], p_bursts[at], v_now) - p_amounts[at];
        PERFORM {schema}.fill(p_namespace, p_keys[at], p_rates[at], p_bursts[at], v_level, v_now);
    END LOOP;
END $$;

CREATE FUNCTION {schema}.acquire(p_lock bigint, p_namespace text, p_key bytea, p_ttl double precision, p_slots integer)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now double precision;
    v_token bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    v_now := {schema}.now_s();
    DELETE FROM {schema}.leases WHERE namespace = p_namespace AND key = p_key AND until <= v_now;
    IF (SELECT count(*) FROM {schema}.leases WHERE namespace = p_namespace AND key = p_key) >= p_slots THEN
        RETURN NULL;
    END IF;
    INSERT INTO {schema}.leases (namespace, key, token, until)
    VALUES (p_namespace, p_key, nextval('{schema}.numbers'), v_now + p_ttl)
    RETURNING token INTO v_token;
    RETURN v_token;
END $$;

CREATE FUNCTION {schema}.renew(p_lock bigint, p_namespace text, p_key bytea, p_token bigint, p_ttl double precision)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_now double precision;
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    v_now := {schema}.now_s();
    UPDATE {schema}.leases SET until = v_now + p_ttl
    WHERE namespace = p_namespace AND key = p_key AND token = p_token AND until > v_now;
    RETURN FOUND;
END $$;

CREATE FUNCTION {schema}.release(p_lock bigint, p_namespace text, p_key bytea, p_token bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    DELETE FROM {schema}.leases
    WHERE namespace = p_namespace AND key = p_key AND token = p_token AND until > {schema}.now_s();
    RETURN FOUND;
END $$;

CREATE FUNCTION {schema}.append(p_lock bigint, p_namespace text, p_key bytea, p_value bytea, p_expire double precision)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now double precision;
    v_position bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(p_lock);
    v_now := {schema}.now_s();
    DELETE FROM {schema}.logs WHERE namespace = p_namespace AND key = p_key AND until <= v_now;
    IF FOUND THEN
        DELETE FROM {schema}.entries WHERE namespace = p_namespace AND key = p_key;
    END IF;
    INSERT INTO {schema}.logs AS l (namespace, key, last, until) VALUES (p_namespace, p_key, 1, v_now + p_expire)
    ON CONFLICT (namespace, key) DO UPDATE SET last = l.last + 1, until = excluded.until
    RETURNING last INTO v_position;
    INSERT INTO {schema}.entries (namespace, key, position, value) VALUES (p_namespace, p_key, v_position, p_value);
    RETURN v_position;
END $$;

-- Removes what has expired, at most p_limit rows of each table, and waits for nobody. How many rows.
CREATE FUNCTION {schema}.sweep(p_limit integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now double precision := {schema}.now_s();
    v_removed bigint := 0;
    v_rows bigint;
    v_log record;
BEGIN
    DELETE FROM {schema}.items WHERE until <= v_now AND ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.items WHERE until <= v_now LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_removed := v_removed + v_rows;
    DELETE FROM {schema}.counters WHERE until <= v_now AND ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.counters WHERE until <= v_now LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_removed := v_removed + v_rows;
    DELETE FROM {schema}.buckets WHERE until <= v_now AND ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.buckets WHERE until <= v_now LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_removed := v_removed + v_rows;
    DELETE FROM {schema}.leases WHERE until <= v_now AND ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.leases WHERE until <= v_now LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_removed := v_removed + v_rows;
    FOR v_log IN
        DELETE FROM {schema}.logs WHERE until <= v_now AND ctid = ANY (ARRAY(
            SELECT ctid FROM {schema}.logs WHERE until <= v_now LIMIT p_limit FOR UPDATE SKIP LOCKED))
        RETURNING namespace, key
    LOOP
        DELETE FROM {schema}.entries WHERE namespace = v_log.namespace AND key = v_log.key;
        v_removed := v_removed + 1;
    END LOOP;
    RETURN v_removed;
END $$;
