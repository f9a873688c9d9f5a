"""realtime-py as it is shipped, against a running relay: subscribe, filter, row level security, token refresh, token expiry,
reconnect after a restart. Prints TAP; exits 1 when anything failed.

RELAY_URL     http://host:port of the relay
DATABASE_URL  a superuser's, with SUPABASE_COMPAT.sql and ENABLE_REALTIME_CHAT.sql applied
JWT_SECRET    the relay's HS256 secret
PSQL          psql, when it is not on the PATH

To have the relay restarted it prints "# restart the relay" and waits for a line on its input.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import os
import sys
import time
import traceback
import uuid
from datetime import datetime

from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

PATIENCE_S = 30
# The SDK gives up after five attempts, the last after 15 seconds.
RECONNECT_S = 90

RELAY_URL = os.environ["RELAY_URL"]
DATABASE_URL = os.environ["DATABASE_URL"]
JWT_SECRET = os.environ["JWT_SECRET"]
PSQL = os.environ.get("PSQL", "psql")

# A lost connection is part of the scenario; the SDK logs it as an error.
logging.getLogger("realtime").setLevel(logging.CRITICAL)

# ---- tools


def token(claims, lifetime_s=3600):
    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    parts = [{"alg": "HS256", "typ": "JWT"}, {"exp": int(time.time()) + lifetime_s, **claims}]
    body = b".".join(encode(json.dumps(part).encode()) for part in parts)
    signature = hmac.new(JWT_SECRET.encode(), body, hashlib.sha256).digest()
    return (body + b"." + encode(signature)).decode()


def token_of(user, lifetime_s=3600):
    return token({"role": "authenticated", "sub": user}, lifetime_s)


def new_id():
    return str(uuid.uuid4())


async def sql(text):
    arguments = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", DATABASE_URL, "-c", text]
    process = await asyncio.create_subprocess_exec(PSQL, *arguments, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    if process.returncode != 0:
        raise AssertionError(f"{text}: {errors.decode()}")


async def session(visitor):
    """A visitor's open session; its id."""
    chat = new_id()
    await sql(f"insert into live_chat_sessions (id, visitor_id) values ('{chat}', '{visitor}')")
    return chat


async def write(chat, body):
    """A message written into a session; its id."""
    message = new_id()
    await sql(
        "insert into chat_messages (id, session_id, sender_type, body) "
        f"values ('{message}', '{chat}', 'visitor', '{body}')"
    )
    return message


def same(is_, should, what):
    if is_ != should:
        raise AssertionError(f"{what}: is {is_!r}, should be {should!r}")


class Inbox:
    """What arrived, in order, and a way to wait for the next of it."""

    def __init__(self):
        self.items = asyncio.Queue()

    def put(self, item):
        self.items.put_nowait(item)

    async def next(self, what, patience=PATIENCE_S):
        try:
            return await asyncio.wait_for(self.items.get(), patience)
        except asyncio.TimeoutError:
            raise AssertionError(f"waited {patience} s in vain for {what}") from None

    async def find(self, what, fits, patience=PATIENCE_S):
        """The next item that fits; those before it are dropped."""
        while True:
            item = await self.next(what, patience)
            if fits(item):
                return item


clients = []


async def connect(user, lifetime_s=3600):
    client = AsyncRealtimeClient(f"{RELAY_URL}/realtime/v1", token({"role": "anon"}))
    clients.append(client)
    await client.set_auth(token_of(user, lifetime_s))
    return client


class Subscribed:
    """A channel that is subscribed: its changes, its status, what the server said about it."""

    def __init__(self, client):
        self.changes, self.statuses, self.system = Inbox(), Inbox(), Inbox()
        self.channel = client.channel(f"test-{new_id()}")

    async def confirmed(self):
        await self.system.find("the server to say it is subscribed", lambda it: it.extension == "postgres_changes")


async def subscribe(client, wishes):
    it = Subscribed(client)
    for event, table, filter in wishes:
        it.channel.on_postgres_changes(
            event, lambda payload: it.changes.put(payload["data"]), table=table, schema="public", filter=filter
        )
    it.channel.on_system(it.system.put)
    await it.channel.subscribe(lambda status, error: it.statuses.put(status))
    same(await it.statuses.next("SUBSCRIBED"), RealtimeSubscribeStates.SUBSCRIBED, "status")
    await it.confirmed()
    return it


class Present:
    """A channel where one is present as `key`: what the SDK says about others, in order."""

    def __init__(self, client, topic, key):
        self.told, self.statuses, self.key = Inbox(), Inbox(), key
        self.channel = client.channel(topic, {"config": {"presence": {"key": key, "enabled": True}}})
        self.channel.on_presence_sync(lambda: self.told.put(("sync", self.seen())))
        self.channel.on_presence_join(lambda key, before, new: self.told.put(("join", key)))
        self.channel.on_presence_leave(lambda key, left, gone: self.told.put(("leave", key)))

    def seen(self):
        people = self.channel.presence_state()
        return {key: [{k: v for k, v in meta.items() if k != "presence_ref"} for meta in metas] for key, metas in people.items()}

    async def sees(self, people):
        await self.told.find(f"{self.key} to see {people}", lambda it: it == ("sync", people))


async def attend(client, topic, key):
    it = Present(client, topic, key)
    await it.channel.subscribe(lambda status, error: it.statuses.put(status))
    same(await it.statuses.next("SUBSCRIBED"), RealtimeSubscribeStates.SUBSCRIBED, "status")
    return it


async def restart():
    print("# restart the relay", flush=True)
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    if not line:
        raise AssertionError("nobody restarted the relay")


# ---- what must hold


async def an_insert_an_update_and_a_delete_arrive_with_their_rows():
    ann = new_id()
    chat = await session(ann)
    it = await subscribe(await connect(ann), [("*", "chat_messages", f"session_id=eq.{chat}")])

    message = await write(chat, "hello")
    insert = await it.changes.next("the insert")
    same([insert["type"], insert["schema"], insert["table"]], ["INSERT", "public", "chat_messages"], "insert")
    same(insert["errors"], None, "its errors")
    row = insert["record"]
    same([row["id"], row["session_id"], row["body"], row["read_at"]], [message, chat, "hello", None], "its row")
    same([{"name": "body", "type": "text"} in insert["columns"]], [True], "its columns")
    datetime.fromisoformat(insert["commit_timestamp"].replace("Z", "+00:00"))

    await sql(f"update chat_messages set body = 'hello again' where id = '{message}'")
    update = await it.changes.next("the update")
    bodies = [update["type"], update["record"]["body"], update["old_record"]["body"]]
    same(bodies, ["UPDATE", "hello again", "hello"], "update")

    await sql(f"delete from chat_messages where id = '{message}'")
    gone = await it.changes.next("the delete")
    same([gone["type"], gone["old_record"]["id"]], ["DELETE", message], "delete")


async def a_filter_lets_through_what_it_names_in_order_and_nothing_else():
    ann = new_id()
    one, two, three = [await session(ann) for _ in range(3)]
    ours = await connect(ann)
    some = await subscribe(ours, [("INSERT", "chat_messages", f"session_id=in.({one},{three})")])
    other = await subscribe(ours, [("INSERT", "chat_messages", f"session_id=eq.{two},body=not.is.null")])

    await write(two, "to two")
    await write(one, "to one")
    await write(three, "to three")
    same((await some.changes.next("the first that fits"))["record"]["body"], "to one", "first")
    same((await some.changes.next("the second that fits"))["record"]["body"], "to three", "second")
    same((await other.changes.next("the one that fits"))["record"]["body"], "to two", "other")


async def each_user_gets_the_rows_they_may_read_the_agent_all_of_them():
    ann, ben, agent = new_id(), new_id(), new_id()
    await sql(f"insert into support_agents (user_id, display_name) values ('{agent}', 'Agent')")
    hers, his = await session(ann), await session(ben)
    wishes = [("INSERT", "chat_messages", None)]
    ann_sees, ben_sees, agent_sees = [await subscribe(await connect(user), wishes) for user in (ann, ben, agent)]

    await write(his, "from ben")
    await write(hers, "from ann")
    await write(his, "from ben again")
    same((await ann_sees.changes.next("her message"))["record"]["body"], "from ann", "ann")
    same((await ben_sees.changes.next("his message"))["record"]["body"], "from ben", "ben")
    same((await ben_sees.changes.next("his second message"))["record"]["body"], "from ben again", "ben")
    bodies = [(await agent_sees.changes.next("each message"))["record"]["body"] for _ in range(3)]
    same(bodies, ["from ben", "from ann", "from ben again"], "the agent")


async def a_new_token_counts_from_the_moment_the_server_confirms_it():
    ann, ben = new_id(), new_id()
    hers, his = await session(ann), await session(ben)
    somebody = await connect(ann)
    it = await subscribe(somebody, [("INSERT", "chat_messages", None)])
    await write(his, "not yet")
    await write(hers, "as ann")
    same((await it.changes.next("her message"))["record"]["body"], "as ann", "before")

    await somebody.set_auth(token_of(ben))
    await it.confirmed()
    await write(hers, "no more")
    await write(his, "as ben")
    same((await it.changes.next("his message"))["record"]["body"], "as ben", "after")


async def a_channel_whose_token_expires_closes_one_whose_token_was_refreshed_goes_on():
    ann = new_id()
    chat = await session(ann)
    wishes = [("INSERT", "chat_messages", None)]
    expiring, refreshing = await connect(ann, 6), await connect(ann, 6)
    lost = await subscribe(expiring, wishes)
    kept = await subscribe(refreshing, wishes)
    await refreshing.set_auth(token_of(ann))
    await kept.confirmed()

    await lost.statuses.find("the channel to close", lambda status: status == RealtimeSubscribeStates.CLOSED)
    await write(chat, "still here")
    same((await kept.changes.next("the message"))["record"]["body"], "still here", "refreshed")


async def who_tracks_changes_untracks_leaves_or_is_lost_is_seen_by_everyone():
    topic = f"room-{new_id()}"
    ann = await attend(await connect(new_id()), topic, "ann")
    await ann.sees({})
    await ann.channel.track({"status": "here"})
    await ann.sees({"ann": [{"status": "here"}]})

    bens = await connect(new_id())
    ben = await attend(bens, topic, "ben")
    await ben.sees({"ann": [{"status": "here"}]})
    await ben.channel.track({"n": 1})
    for one in (ann, ben):
        await one.sees({"ann": [{"status": "here"}], "ben": [{"n": 1}]})

    await ann.channel.track({"status": "away"})
    for one in (ann, ben):
        await one.sees({"ann": [{"status": "away"}], "ben": [{"n": 1}]})
    await ann.channel.untrack()
    await ben.told.find("ann to leave", lambda it: it == ("leave", "ann"))
    for one in (ann, ben):
        await one.sees({"ben": [{"n": 1}]})

    await ann.channel.track({})
    await ben.told.find("ann to join", lambda it: it == ("join", "ann"))
    await ann.channel.unsubscribe()
    await ben.told.find("ann to leave", lambda it: it == ("leave", "ann"))

    cleo = await attend(await connect(new_id()), topic, "cleo")
    await cleo.sees({"ben": [{"n": 1}]})
    await bens.close()
    await cleo.told.find("ben to leave", lambda it: it == ("leave", "ben"))
    await cleo.sees({})


async def after_a_restart_of_the_relay_the_channel_is_subscribed_again_by_itself():
    ann = new_id()
    chat = await session(ann)
    it = await subscribe(await connect(ann), [("INSERT", "chat_messages", None)])
    await write(chat, "before")
    same((await it.changes.next("the message"))["record"]["body"], "before", "before")

    await restart()
    back = RealtimeSubscribeStates.SUBSCRIBED
    await it.statuses.find("the channel to come back", lambda status: status == back, RECONNECT_S)
    await it.confirmed()
    await write(chat, "after")
    await it.changes.find("the message after it", lambda change: change["record"]["body"] == "after")


SCENARIOS = [
    an_insert_an_update_and_a_delete_arrive_with_their_rows,
    a_filter_lets_through_what_it_names_in_order_and_nothing_else,
    each_user_gets_the_rows_they_may_read_the_agent_all_of_them,
    a_new_token_counts_from_the_moment_the_server_confirms_it,
    a_channel_whose_token_expires_closes_one_whose_token_was_refreshed_goes_on,
    who_tracks_changes_untracks_leaves_or_is_lost_is_seen_by_everyone,
    after_a_restart_of_the_relay_the_channel_is_subscribed_again_by_itself,
]


async def main():
    print(f"1..{len(SCENARIOS)}", flush=True)
    failed = False
    for number, scenario in enumerate(SCENARIOS, 1):
        promise = scenario.__name__.replace("_", " ")
        try:
            await scenario()
            print(f"ok {number} - {promise}", flush=True)
        except Exception:
            failed = True
            told = traceback.format_exc().replace("\n", "\n# ")
            print(f"not ok {number} - {promise}\n# {told}", flush=True)
        for client in clients:
            await client.close()
        clients.clear()
    return failed


sys.exit(1 if asyncio.run(main()) else 0)
