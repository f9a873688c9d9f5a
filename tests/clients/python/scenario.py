"""realtime-py as it is shipped, against a running relay: row changes, filters, row level security, tokens, broadcast by
sockets, by HTTP and from the database, presence, private channels, replay, and coming back after the relay was away.
Prints TAP; exits 1 when anything failed.

  python scenario.py realtime-newest|realtime-older      a name in ../versions.txt

RELAY_URL     http://host:port of the relay
DATABASE_URL  a superuser's, with SUPABASE_COMPAT.sql, ENABLE_REALTIME_CHAT.sql, `relay migrate` and ../policies.sql
JWT_SECRET    the relay's HS256 secret
PSQL          psql, when it is not on the PATH

It prints "# restart the relay", "# stop the relay" or "# start the relay", and waits for a line on its input that
says it is done.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import os
import pathlib
import sys
import time
import traceback
import uuid
from datetime import datetime
from importlib.metadata import version

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates

try:
    from realtime import RealtimeHTTPError
except ImportError:
    # It came with `http_send`.
    RealtimeHTTPError = None

PATIENCE_S = 120
# The SDK gives up after five attempts, the last after 15 seconds.
RECONNECT_S = 180

RELAY_URL = os.environ["RELAY_URL"]
DATABASE_URL = os.environ["DATABASE_URL"]
JWT_SECRET = os.environ["JWT_SECRET"]
PSQL = os.environ.get("PSQL", "psql")

NAME = sys.argv[1]
LISTED = [line.split("\t") for line in (pathlib.Path(__file__).parents[1] / "versions.txt").read_text().splitlines()]
_, _, VERSION, _, _, LACKING = next(fields for fields in LISTED if fields[0] == NAME)
# What this SDK cannot do, by the words of `versions.txt`.
LACKS = set(LACKING.split()) - {"-"}

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


async def connect(user):
    client = AsyncRealtimeClient(f"{RELAY_URL}/realtime/v1", token({"role": "anon"}))
    clients.append(client)
    await client.set_auth(token_of(user))
    return client


async def join(channel, statuses=None, whenever=None):
    """Subscribes a channel, and puts what its callback is told into an inbox."""
    statuses = statuses or Inbox()

    def told(status, error):
        if whenever and status == RealtimeSubscribeStates.SUBSCRIBED:
            whenever()
        statuses.put(status)

    await channel.subscribe(told)
    same(await statuses.next("SUBSCRIBED"), RealtimeSubscribeStates.SUBSCRIBED, "status")
    return statuses


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
    await join(it.channel, it.statuses)
    await it.confirmed()
    return it


# What anybody says in these scenarios: this SDK listens to one event at a time.
EVENTS = ["cursor", "echo", "ev/1", "INSERT", "one", "two", "three", "live", "between", "after"]


def room(client, topic, broadcast=None, private=False):
    """A channel that is not subscribed yet, and what it hears."""
    broadcast = {"ack": False, "self": False, **(broadcast or {})}
    config = {"broadcast": broadcast, "presence": {"key": "", "enabled": False}, "private": private}
    channel, heard = client.channel(topic, {"config": config}), Inbox()
    for event in EVENTS:
        channel.on_broadcast(event, heard.put)
    return channel, heard


async def member(topic, broadcast=None, user=None, private=False):
    """A channel in a topic, and what it hears."""
    channel, heard = room(await connect(user or new_id()), topic, broadcast, private)
    await join(channel)
    return channel, heard


async def send(topic, event, payload="{}", private=True):
    """Has the database send something."""
    await sql(f"select realtime.send('{payload}', '{event}', '{topic}', {private})")


class Present:
    """A channel where one is present as `key`: what the SDK says about others, in order."""

    def __init__(self, client, topic, key, private=False):
        self.told, self.key = Inbox(), key
        presence = {"key": key, "enabled": True}
        config = {"broadcast": {"ack": True, "self": False}, "presence": presence, "private": private}
        self.channel = client.channel(topic, {"config": config})
        self.channel.on_presence_sync(lambda: self.told.put(("sync", self.seen())))
        self.channel.on_presence_join(lambda key, before, new: self.told.put(("join", key)))
        self.channel.on_presence_leave(lambda key, left, gone: self.told.put(("leave", key)))

    def seen(self):
        people = self.channel.presence_state()
        return {key: [{k: v for k, v in meta.items() if k != "presence_ref"} for meta in metas] for key, metas in people.items()}

    async def sees(self, people):
        await self.told.find(f"{self.key} to see {people}", lambda it: it == ("sync", people))


async def attend(client, topic, key, private=False):
    it = Present(client, topic, key, private)
    await join(it.channel)
    return it


async def relay(order):
    """Has the relay restarted, stopped or started by whoever runs this; returns when it is done."""
    print(f"# {order} the relay", flush=True)
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    if not line:
        raise AssertionError(f"nobody did {order} the relay")


def needing(feature):
    """A scenario that has nothing to show on an SDK that cannot do `feature`."""

    def mark(scenario):
        scenario.feature = feature
        return scenario

    return mark


# ---- what must hold


async def it_is_the_sdk_that_is_listed_and_can_do_what_is_listed():
    same(version("realtime"), VERSION, "version")
    same("http-send" in LACKS, not hasattr(AsyncRealtimeChannel, "http_send"), "http-send")


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


async def what_is_written_once_the_sdk_says_subscribed_arrives():
    ann = new_id()
    chat = await session(ann)
    it = Subscribed(await connect(ann))
    it.channel.on_postgres_changes("INSERT", it.changes.put, table="chat_messages", schema="public")
    await join(it.channel)
    await write(chat, "at once")
    same((await it.changes.next("the row"))["data"]["record"]["body"], "at once", "row")


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
    # Others write at the same time, and the agent may read that, too.
    these = [("INSERT", "chat_messages", f"session_id=in.({hers},{his})")]
    wishes = [("INSERT", "chat_messages", None)]
    ann_sees, ben_sees = [await subscribe(await connect(user), wishes) for user in (ann, ben)]
    agent_sees = await subscribe(await connect(agent), these)

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
    expiring, refreshing = await connect(ann), await connect(ann)
    lost = await subscribe(expiring, wishes)
    kept = await subscribe(refreshing, wishes)
    # One right after the other: how long that takes on a busy machine is no part of it.
    await refreshing.set_auth(token_of(ann, 6))
    await refreshing.set_auth(token_of(ann))
    await expiring.set_auth(token_of(ann, 4))

    if "closing" in LACKS:
        # Its channel is closed all the same, only nobody is told.
        while not lost.channel.is_closed:
            await asyncio.sleep(0.05)
        same(lost.statuses.items.empty(), True, "it was told")
    else:
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


async def two_tabs_of_one_person_are_two_and_the_person_stays_until_the_last_is_gone():
    topic = f"room-{new_id()}"
    ben = await attend(await connect(new_id()), topic, "ben")
    one, two = [await attend(await connect(new_id()), topic, "ann") for _ in range(2)]
    await one.channel.track({"tab": 1})
    await ben.sees({"ann": [{"tab": 1}]})
    await two.channel.track({"tab": 2})
    for each in (ben, one, two):
        await each.sees({"ann": [{"tab": 1}, {"tab": 2}]})

    await one.channel.unsubscribe()
    for each in (ben, two):
        await each.sees({"ann": [{"tab": 2}]})
    await two.channel.untrack()
    for each in (ben, two):
        await each.sees({})


async def a_broadcast_reaches_the_others_and_with_self_its_sender_too():
    topic = f"room:{new_id()}"
    speaker, own = await member(topic)
    _, others = await member(topic)
    echo, echoed = await member(topic, {"self": True, "ack": True})
    await speaker.send_broadcast("cursor", {"x": 1.5, "text": 'é "'})
    for inbox in [others, echoed]:
        heard = await inbox.next("the message")
        same([heard["event"], heard["payload"]], ["cursor", {"x": 1.5, "text": 'é "'}], "heard")
    await echo.send_broadcast("echo", {})
    for inbox in [echoed, others, own]:
        same((await inbox.next("the next"))["event"], "echo", "heard")


@needing("http-send")
async def http_send_reaches_the_topic_joined_or_not():
    topic = f"room:{new_id()}/é"
    speaker, heard = await member(topic)
    outside = (await connect(new_id())).channel(topic)
    for n, channel in enumerate([outside, speaker]):
        await channel.http_send("ev/1", {"n": n})
        message = await heard.next("the message")
        same([message["event"], message["payload"]], ["ev/1", {"n": n}], "heard")


async def a_private_channel_is_for_those_its_policies_let_in_and_is_not_the_public_one():
    ann, ben = new_id(), new_id()
    topic = f"of:{ann}"
    _, heard = await member(topic, user=ann, private=True)
    speaker, _ = await member(topic, user=ann, private=True)
    _, outside = await member(topic)

    refused, _ = room(await connect(ben), topic, private=True)
    told = Inbox()
    await refused.subscribe(lambda status, error: told.put((status, str(error))))
    status, why = await told.next("the refusal")
    same(status, RealtimeSubscribeStates.CHANNEL_ERROR, "status")
    same(f"You do not have permissions to read from this Channel topic: {topic}" in why, True, why)

    await speaker.send_broadcast("one", {})
    same((await heard.next("the message"))["event"], "one", "heard")
    await send(topic, "two", private=False)
    same((await outside.next("the public one"))["event"], "two", "heard outside")


@needing("http-send")
async def who_may_only_hear_is_not_heard_by_socket_or_by_http():
    topic = f"hear:{new_id()}"
    _, heard = await member(topic, private=True)
    speaker, _ = await member(topic, private=True)
    await speaker.send_broadcast("one", {})
    try:
        await speaker.http_send("two", {})
        raise AssertionError("it was sent")
    except RealtimeHTTPError as error:
        same(error.status, 403, "status")
    await send(topic, "three")
    same((await heard.next("what the database says"))["event"], "three", "heard")


@needing("http-send")
async def http_send_reaches_a_private_topic():
    topic = f"open:{new_id()}"
    _, heard = await member(topic, private=True)
    outside, _ = room(await connect(new_id()), topic, private=True)
    await outside.http_send("one", {"n": 1})
    message = await heard.next("the message")
    same([message["event"], message["payload"]], ["one", {"n": 1}], "heard")


async def people_on_a_private_channel_see_each_other():
    topic = f"open:{new_id()}"
    ann, ben = [await attend(await connect(new_id()), topic, key, private=True) for key in ("ann", "ben")]
    await ann.channel.track({"n": 1})
    await ben.channel.track({"n": 2})
    for one in (ann, ben):
        await one.sees({"ann": [{"n": 1}], "ben": [{"n": 2}]})


async def what_the_database_sends_to_a_topic_arrives_with_an_id():
    for kind, private in (("room", False), ("hear", True)):
        topic = f"{kind}:{new_id()}"
        _, heard = await member(topic, private=private)
        await send(topic, "one", '{"n": 1.5}', private)
        message = await heard.next("the message")
        same([message["event"], message["payload"]["n"]], ["one", 1.5], "heard")
        same(message["payload"]["id"], message["meta"]["id"], "its id")


async def what_happens_to_rows_is_told_by_their_trigger_to_those_who_may_read_them():
    ann = new_id()
    chat = await session(ann)
    _, heard = await member(f"chat:{chat}", user=ann, private=True)
    message = await write(chat, "hello")
    payload = (await heard.next("the insert"))["payload"]
    same([payload["operation"], payload["schema"], payload["table"]], ["INSERT", "public", "chat_messages"], "heard")
    same([payload["record"]["id"], payload["old_record"]], [message, None], "its row")


async def who_asks_for_a_replay_hears_the_newest_of_what_was_said_before_oldest_first():
    topic = f"hear:{new_id()}"
    for event in ("one", "two", "three"):
        await send(topic, event)
    replay = {"replay": {"since": int(time.time() * 1000) - 60_000, "limit": 2}}
    _, heard = await member(topic, replay, private=True)
    await send(topic, "live")
    messages = [await heard.next("each message") for _ in range(3)]
    told = [(it["event"], it["meta"].get("replayed", False)) for it in messages]
    same(told, [("two", True), ("three", True), ("live", False)], "heard")


async def after_the_relay_was_killed_and_started_again_a_channel_is_subscribed_again_by_itself():
    ann = new_id()
    chat = await session(ann)
    it = await subscribe(await connect(ann), [("INSERT", "chat_messages", None)])
    await write(chat, "before")
    same((await it.changes.next("the message"))["record"]["body"], "before", "before")

    await relay("restart")
    back = RealtimeSubscribeStates.SUBSCRIBED
    await it.statuses.find("the channel to come back", lambda status: status == back, RECONNECT_S)
    await it.confirmed()
    await write(chat, "after")
    await it.changes.find("the message after it", lambda change: change["record"]["body"] == "after")


class Settled(Present):
    """Somebody in a room that asks for everything there is, tracks whenever subscribed, and does nothing else."""

    async def settle(self, chat):
        self.changes, self.heard, self.system, self.times = Inbox(), Inbox(), Inbox(), 0
        self.channel.on_postgres_changes(
            "INSERT",
            lambda payload: self.changes.put(payload["data"]["record"]["body"]),
            table="chat_messages",
            schema="public",
            filter=f"session_id=eq.{chat}",
        )
        self.channel.on_broadcast("said", lambda message: self.heard.put(message["payload"]))
        self.channel.on_system(self.system.put)
        self.statuses = await join(self.channel, whenever=self.track)
        await self.confirmed()

    def track(self):
        self.times += 1
        self.tracking = asyncio.create_task(self.channel.track({"times": self.times}))

    async def confirmed(self):
        await self.system.find("the server to say it is subscribed", lambda it: it.extension == "postgres_changes")


async def when_one_relay_stops_and_another_starts_everyone_comes_back_by_themselves_and_sees_everyone():
    user, topic = new_id(), f"room-{new_id()}"
    chat = await session(user)
    people = ann, ben = [Settled(await connect(user), topic, key) for key in ("ann", "ben")]
    for one in people:
        await one.settle(chat)
    for one in people:
        await one.sees({"ann": [{"times": 1}], "ben": [{"times": 1}]})
    await write(chat, "before")
    for one in people:
        same(await one.changes.next("the row"), "before", "before")

    await relay("stop")
    await write(chat, "between")
    await relay("start")
    back = RealtimeSubscribeStates.SUBSCRIBED
    for one in people:
        await one.statuses.find("the channel to come back", lambda status: status == back, RECONNECT_S)
        await one.confirmed()
    together = {"ann": [{"times": 2}], "ben": [{"times": 2}]}
    for one in people:
        await one.sees(together)

    await ann.channel.send_broadcast("said", {"by": "ann"})
    same(await ben.heard.next("what ann says"), {"by": "ann"}, "heard")
    await write(chat, "after")
    await write(chat, "last")
    for one in people:
        bodies = [await one.changes.next("the rows")]
        while bodies[-1] != "last":
            bodies.append(await one.changes.next("the rows"))
        # Whether a row is still told that was written while nobody was there depends on who was back first.
        same([body for body in bodies if body != "between"], ["after", "last"], "rows")
        same(bodies.count("between") <= 1, True, "a row was told once at most")
        same(one.seen(), together, "seen in the end")


async def what_the_database_sent_while_no_relay_was_there_is_heard_by_replay_once():
    topic = f"hear:{new_id()}"
    replay = {"replay": {"since": int(time.time() * 1000) - 60_000}}
    channel, heard = room(await connect(new_id()), topic, replay, private=True)
    statuses = await join(channel)
    await relay("stop")
    await send(topic, "between")
    await relay("start")
    back = RealtimeSubscribeStates.SUBSCRIBED
    await statuses.find("the channel to come back", lambda status: status == back, RECONNECT_S)
    await send(topic, "after")
    same((await heard.next("what was missed"))["event"], "between", "heard")
    same((await heard.next("the next"))["event"], "after", "heard")


TOGETHER = [
    it_is_the_sdk_that_is_listed_and_can_do_what_is_listed,
    an_insert_an_update_and_a_delete_arrive_with_their_rows,
    what_is_written_once_the_sdk_says_subscribed_arrives,
    a_filter_lets_through_what_it_names_in_order_and_nothing_else,
    each_user_gets_the_rows_they_may_read_the_agent_all_of_them,
    a_new_token_counts_from_the_moment_the_server_confirms_it,
    a_channel_whose_token_expires_closes_one_whose_token_was_refreshed_goes_on,
    who_tracks_changes_untracks_leaves_or_is_lost_is_seen_by_everyone,
    two_tabs_of_one_person_are_two_and_the_person_stays_until_the_last_is_gone,
    a_broadcast_reaches_the_others_and_with_self_its_sender_too,
    http_send_reaches_the_topic_joined_or_not,
    a_private_channel_is_for_those_its_policies_let_in_and_is_not_the_public_one,
    who_may_only_hear_is_not_heard_by_socket_or_by_http,
    http_send_reaches_a_private_topic,
    people_on_a_private_channel_see_each_other,
    what_the_database_sends_to_a_topic_arrives_with_an_id,
    what_happens_to_rows_is_told_by_their_trigger_to_those_who_may_read_them,
    who_asks_for_a_replay_hears_the_newest_of_what_was_said_before_oldest_first,
]
ALONE = [
    after_the_relay_was_killed_and_started_again_a_channel_is_subscribed_again_by_itself,
    when_one_relay_stops_and_another_starts_everyone_comes_back_by_themselves_and_sees_everyone,
    what_the_database_sent_while_no_relay_was_there_is_heard_by_replay_once,
]


class Run:
    """What was shown so far, in TAP's words."""

    def __init__(self):
        self.number, self.failed = 0, False

    async def show(self, scenario):
        verdict, said = "ok", ""
        if getattr(scenario, "feature", None) in LACKS:
            said = f" # SKIP {NAME} lacks {scenario.feature}"
        else:
            try:
                await scenario()
            except Exception:
                self.failed = True
                verdict, said = "not ok", "\n# " + traceback.format_exc().replace("\n", "\n# ")
        self.number += 1
        print(f"{verdict} {self.number} - {scenario.__name__.replace('_', ' ')}{said}", flush=True)

    async def leave(self):
        await asyncio.gather(*(client.close() for client in clients))
        clients.clear()


async def main():
    print(f"1..{len(TOGETHER) + len(ALONE)}", flush=True)
    run = Run()
    await asyncio.gather(*(run.show(scenario) for scenario in TOGETHER))
    await run.leave()
    for scenario in ALONE:
        await run.show(scenario)
        await run.leave()
    return run.failed


sys.exit(1 if asyncio.run(main()) else 0)
