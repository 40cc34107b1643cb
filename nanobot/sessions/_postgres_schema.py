"""What is in the PostgreSQL database: tables, and the functions that each do one thing to a session in one round trip.

A version is never changed once it is released, only followed by another: processes of two versions share the database while a
fleet is restarted. So a function whose meaning changes gets a new name.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from nanobot.errors import StoreError

__all__ = ["SCHEMA", "migrate"]

# Any number, so long as it is always the same: whoever brings the schema up to date holds this lock.
_MIGRATION_LOCK: Final = 0x6E616E6F626F74

# session: one row for each. Its key may be longer than an index takes, so it is found by its digest (SHA-256).
# message: its id is its session's and its number, so that the end of a session is found without another index; `token` says
#   under which lease it was written, 0 for none.
# owner: one row for each open store that has or wants a lease; `expires_at` moves on while it lives. All times of leases are
#   of the database's clock, as `clock_timestamp()` gives it.
# lease: `attempt` is the last request of its owner that was granted, or that wrote slips alone: one that arrives late, or a
#   second time, does nothing.
# slip: what a turn leaves beside its session for whoever goes on with it.
# waiter: in order of arrival.
# follower: who is told when a session is written; `attempt` is the last request of its owner that asked for it.
#
# In PL/pgSQL even where it is a line: it keeps its plans, functions in SQL are planned at each call (PostgreSQL 15 and before).
# Each function first takes the session's lock (an advisory one, of the transaction), so that what it looks at next is what the
# one before has left. NOTIFY only if somebody waits or follows: it is what all transactions of a server queue up for.
_V1: Final = r"""
CREATE SEQUENCE nanobot_number;
CREATE TABLE nanobot_session (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    key bytea NOT NULL,
    epoch bigint NOT NULL,
    sequence integer NOT NULL,
    version bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    title bytea NOT NULL,
    preview bytea NOT NULL,
    metadata bytea NOT NULL,
    through integer,
    summary bytea
);
CREATE INDEX nanobot_session_by_version ON nanobot_session (version);
CREATE TABLE nanobot_message (
    session bigint NOT NULL,
    number integer NOT NULL,
    token bigint NOT NULL,
    body bytea NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (session, number)
);
CREATE INDEX nanobot_message_words ON nanobot_message USING gin (words);
CREATE TABLE nanobot_slip (session bigint NOT NULL, name text NOT NULL, body bytea NOT NULL, PRIMARY KEY (session, name));
CREATE INDEX nanobot_slip_by_name ON nanobot_slip (name);
CREATE TABLE nanobot_owner (id bigint PRIMARY KEY, expires_at timestamptz NOT NULL);
CREATE TABLE nanobot_lease (
    digest bytea PRIMARY KEY,
    token bigint NOT NULL,
    epoch bigint NOT NULL,
    owner bigint NOT NULL,
    attempt bigint NOT NULL,
    granted_at timestamptz NOT NULL,
    cancelled boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX nanobot_lease_by_owner ON nanobot_lease (owner);
CREATE TABLE nanobot_waiter (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL,
    owner bigint NOT NULL,
    cancelled boolean NOT NULL DEFAULT false,
    UNIQUE (digest, owner)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX nanobot_waiter_by_owner ON nanobot_waiter (owner);
CREATE TABLE nanobot_follower (
    digest bytea NOT NULL,
    owner bigint NOT NULL,
    attempt bigint NOT NULL,
    PRIMARY KEY (digest, owner)
);

CREATE FUNCTION nanobot_lock(p_lock bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'sessions need the isolation level "read committed", which is not the default here: '
            'ALTER ROLE ... SET default_transaction_isolation = ''read committed''' USING ERRCODE = '0A000';
    END IF;
    PERFORM pg_advisory_xact_lock(p_lock);
END $$;

CREATE FUNCTION nanobot_tell(p_owner bigint, p_kind text, p_digest bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('nanobot_' || p_owner, p_kind || encode(p_digest, 'hex'));
END $$;

CREATE FUNCTION nanobot_lives(p_owner bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM nanobot_owner WHERE id = p_owner AND expires_at > clock_timestamp());
END $$;

CREATE FUNCTION nanobot_introduce(p_owner bigint, p_timeout interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM nanobot_owner WHERE id = p_owner AND expires_at > clock_timestamp() + p_timeout / 2;
    IF NOT FOUND THEN
        INSERT INTO nanobot_owner VALUES (p_owner, clock_timestamp() + p_timeout)
        ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at;
    END IF;
END $$;

CREATE FUNCTION nanobot_first(p_digest bytea, p_me bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT owner FROM nanobot_waiter
        WHERE digest = p_digest AND (owner = p_me OR nanobot_lives(owner)) ORDER BY number LIMIT 1);
END $$;

-- Whoever is first in line is told that the session is free.
CREATE FUNCTION nanobot_pass_on(p_digest bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first bigint := nanobot_first(p_digest, NULL);
BEGIN
    IF first IS NOT NULL THEN
        PERFORM nanobot_tell(first, 'f', p_digest);
    END IF;
END $$;

CREATE FUNCTION nanobot_acquire(
    p_digest bytea, p_lock bigint, p_owner bigint, p_attempt bigint, p_timeout interval,
    p_last integer, p_covered integer, p_epoch bigint, p_version bigint,
    OUT o_token bigint, OUT o_lease_epoch bigint, OUT o_slips text[], OUT o_slip_bodies bytea[],
    OUT o_epoch bigint, OUT o_sequence integer, OUT o_version bigint,
    OUT o_created_at bigint, OUT o_updated_at bigint, OUT o_metadata bytea, OUT o_through integer, OUT o_summary bytea,
    OUT o_bodies bytea[]
) LANGUAGE plpgsql AS $$
DECLARE
    held nanobot_lease;
    first bigint;
    s nanobot_session;
BEGIN
    -- A lease need not outlive a crash of the server.
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM nanobot_lock(p_lock);
    PERFORM nanobot_introduce(p_owner, p_timeout);
    SELECT * INTO held FROM nanobot_lease WHERE digest = p_digest;
    IF held.owner = p_owner AND held.attempt >= p_attempt THEN
        RETURN;  -- this one was overtaken: whoever sent it has asked again since then, or is gone
    END IF;
    first := nanobot_first(p_digest, p_owner);
    IF (held.owner <> p_owner AND nanobot_lives(held.owner)) OR first <> p_owner THEN
        INSERT INTO nanobot_waiter (digest, owner) VALUES (p_digest, p_owner) ON CONFLICT DO NOTHING;
        IF held.owner = p_owner THEN  -- the queue in that process has passed it on, and others were here first
            DELETE FROM nanobot_lease WHERE digest = p_digest;
            held := NULL;
        END IF;
        IF held.owner IS NULL OR NOT nanobot_lives(held.owner) THEN
            PERFORM nanobot_pass_on(p_digest);
        END IF;
        RETURN;
    END IF;
    IF first IS NOT NULL THEN
        DELETE FROM nanobot_waiter WHERE digest = p_digest AND owner = p_owner;
    END IF;
    SELECT * INTO s FROM nanobot_session WHERE digest = p_digest;
    o_token := nextval('nanobot_number');
    o_lease_epoch := coalesce(s.epoch, nextval('nanobot_number'));
    INSERT INTO nanobot_lease VALUES (p_digest, o_token, o_lease_epoch, p_owner, p_attempt, clock_timestamp())
    ON CONFLICT (digest) DO UPDATE SET token = excluded.token, epoch = excluded.epoch, owner = excluded.owner,
        attempt = excluded.attempt, granted_at = excluded.granted_at, cancelled = false;
    IF s.id IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(name), array_agg(body) INTO o_slips, o_slip_bodies FROM nanobot_slip WHERE session = s.id;
    o_epoch := s.epoch;
    o_sequence := s.sequence;
    o_version := s.version;
    IF s.epoch = p_epoch AND s.version = p_version THEN
        RETURN;
    END IF;
    o_created_at := s.created_at;
    o_updated_at := s.updated_at;
    o_metadata := s.metadata;
    o_through := s.through;
    o_summary := s.summary;
    SELECT coalesce(array_agg(m.body ORDER BY m.number), '{}') INTO o_bodies FROM nanobot_message m
    WHERE m.session = s.id AND m.number > greatest(0, s.sequence - p_last, s.through - p_covered);
END $$;

CREATE FUNCTION nanobot_read(
    p_digest bytea, p_last integer, p_covered integer,
    OUT o_epoch bigint, OUT o_sequence integer, OUT o_version bigint,
    OUT o_created_at bigint, OUT o_updated_at bigint, OUT o_metadata bytea, OUT o_through integer, OUT o_summary bytea,
    OUT o_bodies bytea[]
) STABLE LANGUAGE plpgsql AS $$  -- stable: one snapshot for both queries
DECLARE
    s nanobot_session;
BEGIN
    SELECT * INTO s FROM nanobot_session WHERE digest = p_digest;
    IF s.id IS NULL THEN
        RETURN;
    END IF;
    o_epoch := s.epoch;
    o_sequence := s.sequence;
    o_version := s.version;
    o_created_at := s.created_at;
    o_updated_at := s.updated_at;
    o_metadata := s.metadata;
    o_through := s.through;
    o_summary := s.summary;
    SELECT coalesce(array_agg(m.body ORDER BY m.number), '{}') INTO o_bodies FROM nanobot_message m
    WHERE m.session = s.id AND m.number > greatest(0, s.sequence - p_last, s.through - p_covered);
END $$;

-- Has a process told when a session is written. What is read afterwards has all writes that looked for followers before: with
-- the session's lock, these are done. Without it, one that had looked and was not yet done would be neither read nor told.
CREATE FUNCTION nanobot_follow(p_digest bytea, p_lock bigint, p_owner bigint, p_attempt bigint, p_timeout interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM nanobot_lock(p_lock);
    PERFORM nanobot_introduce(p_owner, p_timeout);
    INSERT INTO nanobot_follower VALUES (p_digest, p_owner, p_attempt)
    ON CONFLICT (digest, owner) DO UPDATE SET attempt = greatest(nanobot_follower.attempt, excluded.attempt);
END $$;

CREATE FUNCTION nanobot_tell_followers(p_digest bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nanobot_tell(owner, 'm', p_digest) FROM nanobot_follower WHERE digest = p_digest;
END $$;

-- Adds to the end of a session, creating it if needed. Under the session's lock.
CREATE FUNCTION nanobot_write(
    p_digest bytea, p_key bytea, p_epoch bigint, p_token bigint, p_bodies bytea[], p_words text[],
    p_preview bytea, p_title bytea, p_metadata bytea, p_through integer, p_summary bytea, p_created_at bigint,
    OUT o_sequence integer, OUT o_version bigint
) LANGUAGE plpgsql AS $$
DECLARE
    s nanobot_session;
    written_at bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
BEGIN
    SELECT * INTO s FROM nanobot_session WHERE digest = p_digest;
    o_version := nextval('nanobot_number');
    o_sequence := coalesce(s.sequence, 0) + cardinality(p_bodies);
    IF s.id IS NULL THEN
        INSERT INTO nanobot_session
            (digest, key, epoch, sequence, version, created_at, updated_at, title, preview, metadata, through, summary)
        VALUES (p_digest, p_key, p_epoch, o_sequence, o_version, coalesce(p_created_at, written_at), written_at,
            coalesce(p_title, ''), p_preview, coalesce(p_metadata, '{}'), p_through, p_summary)
        RETURNING id INTO s.id;
        s.sequence := 0;
    ELSE
        UPDATE nanobot_session SET sequence = o_sequence, version = o_version, updated_at = written_at,
            preview = CASE WHEN preview = '' THEN p_preview ELSE preview END,
            title = coalesce(p_title, title), metadata = coalesce(p_metadata, metadata),
            through = coalesce(p_through, through), summary = coalesce(p_summary, summary)
        WHERE id = s.id;
    END IF;
    INSERT INTO nanobot_message
        SELECT s.id, s.sequence + place, p_token, body, array_to_tsvector(string_to_array(words, ' '))
        FROM unnest(p_bodies, p_words) WITH ORDINALITY AS added (body, words, place);
    PERFORM nanobot_tell_followers(p_digest);
END $$;

-- Gives a lease as nanobot_acquire does, and where that finds the session at the expected place, without slips, adds to it; NULL
-- is the place of a session that does not exist. `p_first` is the attempt at which this was sent for the first time.
CREATE FUNCTION nanobot_acquire_and_write(
    p_digest bytea, p_lock bigint, p_owner bigint, p_attempt bigint, p_timeout interval,
    p_last integer, p_covered integer, p_epoch bigint, p_version bigint,
    p_first bigint, p_sequence integer, p_key bytea, p_bodies bytea[], p_words text[], p_preview bytea,
    OUT o_status text, OUT o_token bigint, OUT o_lease_epoch bigint, OUT o_slips text[], OUT o_slip_bodies bytea[],
    OUT o_epoch bigint, OUT o_sequence integer, OUT o_version bigint,
    OUT o_created_at bigint, OUT o_updated_at bigint, OUT o_metadata bytea, OUT o_through integer, OUT o_summary bytea,
    OUT o_bodies bytea[]
) LANGUAGE plpgsql AS $$
DECLARE
    durable text := current_setting('synchronous_commit');
    held nanobot_lease;
    s nanobot_session;
BEGIN
    PERFORM nanobot_lock(p_lock);
    SELECT * INTO s FROM nanobot_session WHERE digest = p_digest;
    IF p_attempt > p_first AND (s.epoch, s.version) IS DISTINCT FROM (p_epoch, p_version) THEN
        -- Sent again, because the answer was lost, and something was written since: by an earlier attempt, if the lease is its.
        SELECT * INTO held FROM nanobot_lease WHERE digest = p_digest AND owner = p_owner AND attempt >= p_first;
        IF s.epoch = coalesce(p_epoch, held.epoch) AND EXISTS (SELECT 1 FROM nanobot_message
            WHERE session = s.id AND number = p_sequence + 1 AND token = held.token)
        THEN
            UPDATE nanobot_lease SET attempt = p_attempt WHERE digest = p_digest;
            o_status := 'done';
            o_token := held.token;
            o_lease_epoch := held.epoch;
            o_epoch := s.epoch;
            o_sequence := s.sequence;
            o_version := s.version;
        ELSE
            o_status := 'unknown';
        END IF;
        RETURN;
    END IF;
    SELECT * INTO o_token, o_lease_epoch, o_slips, o_slip_bodies, o_epoch, o_sequence, o_version, o_created_at, o_updated_at,
        o_metadata, o_through, o_summary, o_bodies
        FROM nanobot_acquire(p_digest, p_lock, p_owner, p_attempt, p_timeout, p_last, p_covered, p_epoch, p_version);
    IF o_token IS NOT NULL AND (o_epoch, o_version) IS NOT DISTINCT FROM (p_epoch, p_version) AND o_slips IS NULL THEN
        o_epoch := o_lease_epoch;
        PERFORM set_config('synchronous_commit', durable, true);  -- these, other than a lease, have to outlive a crash
        SELECT * INTO o_sequence, o_version FROM nanobot_write(p_digest, p_key, o_epoch, o_token, p_bodies, p_words, p_preview,
            NULL, NULL, NULL, NULL, NULL);
        o_status := 'done';
    END IF;
END $$;

-- Puts slips beside a session, over those of the same names; NULL as a body takes one away. Under the session's lock.
CREATE FUNCTION nanobot_write_slips(p_session bigint, p_slips text[], p_slip_bodies bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM nanobot_slip WHERE session = p_session AND name = ANY (p_slips);
    INSERT INTO nanobot_slip SELECT p_session, name, body FROM unnest(p_slips, p_slip_bodies) AS given (name, body)
        WHERE body IS NOT NULL;
END $$;

CREATE FUNCTION nanobot_append(
    p_digest bytea, p_lock bigint, p_owner bigint, p_token bigint, p_epoch bigint, p_sequence integer, p_version bigint,
    p_key bytea, p_bodies bytea[], p_words text[], p_preview bytea, p_title bytea, p_metadata bytea,
    p_through integer, p_summary bytea, p_slips text[], p_slip_bodies bytea[], p_attempt bigint,
    p_release boolean, p_again boolean,
    OUT o_status text, OUT o_sequence integer, OUT o_version bigint
) LANGUAGE plpgsql AS $$
DECLARE
    held nanobot_lease;
    s nanobot_session;
    adds boolean := cardinality(p_bodies) > 0 OR p_metadata IS NOT NULL OR p_through IS NOT NULL;
BEGIN
    PERFORM nanobot_lock(p_lock);
    SELECT * INTO held FROM nanobot_lease WHERE digest = p_digest AND owner = p_owner AND token = p_token;
    SELECT * INTO s FROM nanobot_session WHERE digest = p_digest;
    o_sequence := coalesce(s.sequence, 0);
    o_version := coalesce(s.version, 0);
    IF held.token IS NULL THEN
        -- Sent again, because the answer was lost: the first attempt may have given the lease back.
        IF p_again AND EXISTS (SELECT 1 FROM nanobot_message
            WHERE session = s.id AND number = p_sequence + 1 AND token = p_token)
        THEN
            o_status := 'done';
            o_sequence := p_sequence + cardinality(p_bodies);
        ELSIF p_again AND cardinality(p_bodies) = 0 THEN
            o_status := 'unknown';  -- only messages tell who wrote them
        ELSE
            o_status := 'fenced';
        END IF;
        RETURN;
    ELSIF held.epoch <> p_epoch THEN
        o_status := 'gone';
        RETURN;
    ELSIF o_version <> p_version AND NOT p_again THEN
        o_status := 'moved';
        RETURN;
    ELSIF o_version <> p_version OR held.attempt >= p_attempt THEN
        o_status := 'done';  -- nobody but the holder of this token writes: it was an earlier attempt of this very write
    ELSIF p_through NOT BETWEEN 0 AND o_sequence + cardinality(p_bodies) THEN
        o_status := 'impossible';
        RETURN;
    ELSIF p_slips IS NOT NULL AND s.id IS NULL AND NOT adds THEN
        o_status := 'absent';
        RETURN;
    ELSE
        o_status := 'done';
        IF adds THEN
            SELECT * INTO o_sequence, o_version FROM nanobot_write(p_digest, p_key, p_epoch, p_token, p_bodies, p_words,
                p_preview, p_title, p_metadata, p_through, p_summary, NULL);
        END IF;
        IF p_slips IS NOT NULL THEN
            PERFORM nanobot_write_slips(id, p_slips, p_slip_bodies) FROM nanobot_session WHERE digest = p_digest;
            IF NOT adds AND NOT p_release THEN  -- the version does not tell that it was done
                UPDATE nanobot_lease SET attempt = p_attempt WHERE digest = p_digest;
            END IF;
        END IF;
    END IF;
    IF p_release THEN
        DELETE FROM nanobot_lease WHERE digest = p_digest;
        PERFORM nanobot_pass_on(p_digest);
    END IF;
END $$;

-- Leases of this process are on their way back, but for those that it asked for after `p_attempt`.
CREATE FUNCTION nanobot_extend(
    p_digest bytea, p_lock bigint, p_owner bigint, p_attempt bigint, p_version bigint, p_key bytea, p_bodies bytea[],
    p_words text[], p_preview bytea, p_title bytea, p_metadata bytea,
    OUT o_status text
) LANGUAGE plpgsql AS $$
DECLARE
    held nanobot_lease;
    s nanobot_session;
BEGIN
    PERFORM nanobot_lock(p_lock);
    SELECT * INTO held FROM nanobot_lease WHERE digest = p_digest;
    IF (held.owner = p_owner AND held.attempt > p_attempt) OR (held.owner <> p_owner AND nanobot_lives(held.owner)) THEN
        o_status := 'held';
        RETURN;
    END IF;
    DELETE FROM nanobot_lease WHERE digest = p_digest;
    SELECT * INTO s FROM nanobot_session WHERE digest = p_digest;
    IF coalesce(s.version, 0) <> p_version THEN
        o_status := 'moved';
    ELSE
        PERFORM nanobot_write(p_digest, p_key, coalesce(s.epoch, nextval('nanobot_number')), 0, p_bodies, p_words,
            p_preview, p_title, p_metadata, NULL, NULL, NULL);
        o_status := 'done';
    END IF;
    PERFORM nanobot_pass_on(p_digest);
END $$;

-- Ends a session's life; whoever has its lease has it for that life. Under the session's lock.
CREATE FUNCTION nanobot_end_life(p_digest bytea, OUT o_epoch bigint, OUT o_ended nanobot_session)
LANGUAGE plpgsql AS $$
BEGIN
    o_epoch := nextval('nanobot_number');
    UPDATE nanobot_lease SET epoch = o_epoch WHERE digest = p_digest;
    DELETE FROM nanobot_session WHERE digest = p_digest RETURNING * INTO o_ended;
    DELETE FROM nanobot_message WHERE session = o_ended.id;
    DELETE FROM nanobot_slip WHERE session = o_ended.id;
    PERFORM nanobot_tell_followers(p_digest);
END $$;

CREATE FUNCTION nanobot_replace(
    p_digest bytea, p_lock bigint, p_key bytea, p_bodies bytea[], p_words text[], p_preview bytea, p_title bytea,
    p_metadata bytea, p_through integer, p_summary bytea, p_created_at bigint, p_slips text[], p_slip_bodies bytea[],
    p_only_new boolean,
    OUT o_epoch bigint, OUT o_sequence integer, OUT o_version bigint
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nanobot_lock(p_lock);
    IF p_only_new AND EXISTS (SELECT 1 FROM nanobot_session WHERE digest = p_digest) THEN
        RETURN;
    END IF;
    SELECT ended.o_epoch INTO o_epoch FROM nanobot_end_life(p_digest) AS ended;
    SELECT * INTO o_sequence, o_version FROM nanobot_write(p_digest, p_key, o_epoch, 0, p_bodies, p_words, p_preview,
        p_title, p_metadata, p_through, p_summary, p_created_at);
    PERFORM nanobot_write_slips(id, p_slips, p_slip_bodies) FROM nanobot_session WHERE digest = p_digest;
END $$;

CREATE FUNCTION nanobot_clear(
    p_digest bytea, p_lock bigint,
    OUT o_epoch bigint, OUT o_sequence integer, OUT o_version bigint, OUT o_created_at bigint, OUT o_updated_at bigint,
    OUT o_metadata bytea, OUT o_through integer, OUT o_summary bytea, OUT o_bodies bytea[]
) LANGUAGE plpgsql AS $$
DECLARE
    next_epoch bigint;
    old nanobot_session;
BEGIN
    PERFORM nanobot_lock(p_lock);
    SELECT life.o_epoch, (life.o_ended).* INTO next_epoch, old.id, old.digest, old.key, old.epoch, old.sequence, old.version,
        old.created_at, old.updated_at, old.title, old.preview, old.metadata, old.through, old.summary
        FROM nanobot_end_life(p_digest) AS life;
    IF old.id IS NULL THEN
        RETURN;
    END IF;
    PERFORM nanobot_write(p_digest, old.key, next_epoch, 0, '{}', '{}', '', old.title, old.metadata, NULL, NULL, old.created_at);
    SELECT * INTO o_epoch, o_sequence, o_version, o_created_at, o_updated_at, o_metadata, o_through, o_summary, o_bodies
        FROM nanobot_read(p_digest, NULL, NULL);
END $$;

CREATE FUNCTION nanobot_delete(p_digest bytea, p_lock bigint, OUT o_found boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nanobot_lock(p_lock);
    SELECT (ended.o_ended).id IS NOT NULL INTO o_found FROM nanobot_end_life(p_digest) AS ended;
END $$;

-- Puts a slip in the place of another, if that one is there.
CREATE FUNCTION nanobot_swap_slip(p_digest bytea, p_lock bigint, p_name text, p_old bytea, p_new bytea) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    place bigint;
BEGIN
    PERFORM nanobot_lock(p_lock);
    SELECT p.session INTO place FROM nanobot_slip p JOIN nanobot_session s ON s.id = p.session
        WHERE s.digest = p_digest AND p.name = p_name AND p.body = p_old;
    IF place IS NULL THEN
        RETURN false;
    END IF;
    PERFORM nanobot_write_slips(place, ARRAY[p_name], ARRAY[p_new]);
    RETURN true;
END $$;

-- Gives leases back. The locks come in ascending order, so that two processes that do this cannot wait for each other.
CREATE FUNCTION nanobot_release(p_digests bytea[], p_locks bigint[], p_tokens bigint[], p_owner bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR place IN 1 .. cardinality(p_digests) LOOP
        PERFORM nanobot_lock(p_locks[place]);
        DELETE FROM nanobot_lease WHERE digest = p_digests[place] AND token = p_tokens[place] AND owner = p_owner;
        IF FOUND THEN
            PERFORM nanobot_pass_on(p_digests[place]);
        END IF;
    END LOOP;
END $$;

-- Takes a process out of a session's queue.
CREATE FUNCTION nanobot_leave(p_digest bytea, p_lock bigint, p_owner bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    holder bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM nanobot_lock(p_lock);
    DELETE FROM nanobot_waiter WHERE digest = p_digest AND owner = p_owner;
    SELECT owner INTO holder FROM nanobot_lease WHERE digest = p_digest;
    IF holder IS NULL OR NOT nanobot_lives(holder) THEN
        PERFORM nanobot_pass_on(p_digest);  -- it may have been told already
    END IF;
END $$;

-- Ends everything that a process has. Without the sessions' locks: whoever holds one of these has looked already, and what it
-- does is done before anybody else gets the lease.
CREATE FUNCTION nanobot_bury(p_owner bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    freed bytea;
BEGIN
    DELETE FROM nanobot_follower WHERE owner = p_owner;
    DELETE FROM nanobot_waiter WHERE owner = p_owner;
    DELETE FROM nanobot_owner WHERE id = p_owner;
    FOR freed IN DELETE FROM nanobot_lease WHERE owner = p_owner RETURNING digest LOOP
        PERFORM nanobot_pass_on(freed);
    END LOOP;
END $$;

-- Says that a process lives, buries those that have expired, and returns what it should hear of (kind and digest).
-- `p_tokens` are the leases that it has, `p_waiting` the sessions it waits for, `p_followed` those it followed at the time of
-- `p_attempt`. What else the tables have of it was lost on the way, unless it is younger: a lease may be as young as an answer
-- may be late. What they do not have was lost when others took it for dead: it asks again for what it hears is (f)ree, and for
-- being told of what it is said to follow (u)nseen.
CREATE FUNCTION nanobot_beat(
    p_owner bigint, p_timeout interval, p_tokens bigint[], p_waiting bytea[], p_followed bytea[], p_attempt bigint
) RETURNS TABLE (o_kind text, o_digest bytea) LANGUAGE plpgsql AS $$
DECLARE
    dead bigint;
    freed bytea;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO nanobot_owner VALUES (p_owner, clock_timestamp() + p_timeout)
    ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at;
    -- The server's clock was set back: nobody lives for longer than that from now without being heard of.
    UPDATE nanobot_owner SET expires_at = clock_timestamp() + p_timeout WHERE expires_at > clock_timestamp() + p_timeout;
    FOR dead IN SELECT id FROM nanobot_owner WHERE expires_at <= clock_timestamp() FOR UPDATE SKIP LOCKED LOOP
        PERFORM nanobot_bury(dead);
    END LOOP;
    FOR freed IN DELETE FROM nanobot_lease
        WHERE owner = p_owner AND token <> ALL (p_tokens) AND granted_at < clock_timestamp() - p_timeout RETURNING digest
    LOOP
        PERFORM nanobot_pass_on(freed);
    END LOOP;
    DELETE FROM nanobot_waiter WHERE owner = p_owner AND digest <> ALL (p_waiting);
    DELETE FROM nanobot_follower WHERE owner = p_owner AND digest <> ALL (p_followed) AND attempt < p_attempt;
    RETURN QUERY
        SELECT 'f', w.digest FROM nanobot_waiter w LEFT JOIN nanobot_lease l ON l.digest = w.digest
        WHERE w.owner = p_owner AND (l.owner IS NULL OR NOT nanobot_lives(l.owner))
        UNION ALL SELECT 'c', digest FROM nanobot_lease WHERE owner = p_owner AND cancelled
        UNION ALL SELECT 'c', digest FROM nanobot_waiter WHERE owner = p_owner AND cancelled
        UNION ALL SELECT 'f', waited FROM unnest(p_waiting) waited
            WHERE NOT EXISTS (SELECT 1 FROM nanobot_waiter w WHERE w.owner = p_owner AND w.digest = waited)
        UNION ALL SELECT 'u', followed FROM unnest(p_followed) followed
            WHERE NOT EXISTS (SELECT 1 FROM nanobot_follower f WHERE f.owner = p_owner AND f.digest = followed);
END $$;

-- Asks whoever has a session, or waits for it, to stop; returns how many processes were asked.
CREATE FUNCTION nanobot_cancel(p_digest bytea, p_lock bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    asked bigint;
    count integer := 0;
BEGIN
    PERFORM nanobot_lock(p_lock);
    FOR asked IN
        WITH leases AS (UPDATE nanobot_lease SET cancelled = true WHERE digest = p_digest RETURNING owner),
            waiters AS (UPDATE nanobot_waiter SET cancelled = true WHERE digest = p_digest RETURNING owner)
        SELECT owner FROM leases UNION SELECT owner FROM waiters
    LOOP
        PERFORM nanobot_tell(asked, 'c', p_digest);
        count := count + 1;
    END LOOP;
    RETURN count;
END $$;
"""

SCHEMA: Final = (_V1,)
"""One script per version, applied in order, forward only."""


def migrate(connection: psycopg.Connection[Any], shown: str) -> None:
    """Make the tables, or bring them up to date. Any number of processes may do this at once.

    Args:
      connection: With autocommit.
      shown: What errors call the database.

    Raises:
      StoreError: The database was written by a later version than this, or cannot hold any text.
      psycopg.Error: It cannot be written.
    """
    if _version(connection) == len(SCHEMA):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS nanobot_schema (version integer NOT NULL)")
        version = _version(connection)
        if version > len(SCHEMA):
            raise StoreError(
                f"the session database {shown} was written by a newer nanobot (its version is {version}, this one knows "
                f"{len(SCHEMA)}): update nanobot, or name another database in sessions.url"
            )
        for script in SCHEMA[version:]:
            connection.execute(script)
        connection.execute("DELETE FROM nanobot_schema")
        connection.execute("INSERT INTO nanobot_schema VALUES (%s)", (len(SCHEMA),))


def _version(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT to_regclass('nanobot_schema') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return 0
    row = connection.execute("SELECT version FROM nanobot_schema").fetchone()
    return 0 if row is None else int(row[0])
