"""Every bound, with its unit and its reason.

What is read from a peer or a user is checked against these before memory is
taken for it.  docs/memory.rst shows where each buffer sits on a packet's way.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024

# --- frames (docs/wire-protocol.rst) -----------------------------------------

#: bytes; payload of one PACKETS frame that we build.  Large enough that the
#: cost per frame vanishes, small enough that eight of them fit a socket buffer.
FRAME_TYPICAL: Final = 256 * KIB
#: bytes; payload of any frame that we accept.  Refused from its header alone.
FRAME_MAX: Final = 1 * MIB
#: bytes; payload of a control frame (JSON) that we accept.
CONTROL_MAX: Final = 64 * KIB
#: sources in one capture; the frame header has 16 bits for it, 0 is "all".
SOURCES_MAX: Final = 65535

# --- packets -----------------------------------------------------------------

#: bytes; largest packet that libpcap delivers (its MAXIMUM_SNAPLEN).
SNAPLEN_MAX: Final = 262144
#: bytes; a request without a snaplen keeps whole packets.
SNAPLEN_DEFAULT: Final = SNAPLEN_MAX
#: packets per next_batch call: larger thrashes the allocator (measured), smaller pays the call too often.
BATCH_PACKETS: Final = 512
#: batches per wake-up of the reactor, so that one busy interface cannot starve the control connection.
BATCHES_PER_WAKEUP: Final = 4
#: milliseconds after which the kernel hands over a ring block that is not full.
BLOCK_TIMEOUT_MS: Final = 4
#: bytes; libpcap's ring per capture when the configuration does not say.
RING_BYTES: Final = 16 * MIB
#: seconds that a packet can lie in a ring block before we can see it: the block
#: timeout and the kernel's timer granularity, with room to spare.  A watermark
#: is this much behind the clock, and a stop waits this long for the last block.
RING_LAG: Final = 0.025

# --- requests ----------------------------------------------------------------

#: characters of a BPF filter.
FILTER_MAX: Final = 5000
#: characters of a BPF filter that is compiled without a trial in another process:
#: the worst known of this length takes libpcap 25 ms, with Python's lock held.
FILTER_QUICK: Final = 150
#: seconds of processor time for the trial of a longer one, and as long again to compile
#: it.  100 addresses take 0.1 s, 200 take 0.7 s.
FILTER_COMPILE_CPU: Final = 1.0
#: seconds for that trial by the clock, on a busy machine; within `OPEN_TIMEOUT`.
FILTER_COMPILE_TIMEOUT: Final = 5.0
#: threads of an agent that open or close captures at once, half of them for one user.
AGENT_THREADS: Final = 4
#: long filters that an agent tries and compiles at once, and one for each user, so
#: that filters leave processors for the captures.
TRIALS_MAX: Final = 4
#: seconds to wait for one's turn; within `OPEN_TIMEOUT`.
FILTER_TURN_TIMEOUT: Final = 8.0
#: compiled long filters that an agent remembers: instances of one app share theirs.
COMPILED_FILTERS_KEPT: Final = 64
#: characters of the filter that is put into the kernel: the user's and the exclusions.
EFFECTIVE_FILTER_MAX: Final = 32 * KIB
#: filters whose packets the api's policy keeps from everybody.
POLICY_FILTERS_MAX: Final = 16
#: characters of all of them.
POLICY_FILTERS_LENGTH_MAX: Final = 2000
#: addresses of an interface that are told.
ADDRESSES_MAX: Final = 64
#: instances of one app.
INSTANCES_MAX: Final = 10000
#: interfaces in one request.
INTERFACES_MAX: Final = 8
#: characters of a name (target, interface, instance) that we accept.
NAME_MAX: Final = 256
#: characters of a notice's, an error's or an END's words that we send.  Several of them,
#: with every character written as six, still fit a control frame.
TEXT_MAX: Final = 2048
#: proxies on a request's way whose entries in X-Forwarded-For are looked at.
FORWARDED_MAX: Final = 32
#: IP addresses of a machine by which its own traffic is recognised.  On a machine with
#: more of them, the traffic of every address that uses pcapd's ports is left out.
OWN_ADDRESSES_MAX: Final = 24
#: TCP ports of agents that one api connects to.
AGENT_PORTS_MAX: Final = 16

# --- loops: captured packets that come back (pcapd/agent/loops.py) --------------

#: packets, or bytes, of a connection in what is looked at, from which on it is suspected
#: of carrying captured packets.
LOOP_SUSPICIOUS: Final = (100, 32 * KIB)
#: connections that are watched at once.
LOOP_SUSPECTS_MAX: Final = 256
#: seconds that a test takes at most, and one of its rounds.  It ends after 0.06 s where nothing
#: falls silent, and after 0.2 s where something does; only a very busy machine needs more.
LOOP_TEST_TIME: Final = 3.0
LOOP_ROUND_TIME: Final = 0.45
#: bytes that are withheld at most, by all captures of an agent together.
LOOP_TEST_BYTES: Final = 32 * MIB
#: seconds for what is on its way when packets are withheld, and for an answer when some are
#: sent; a connection that moves later is not part of a loop.  The second is for connections
#: that were tested before, or moved with us: some go through a capture that the api puts in
#: order, and some machines are busy.
LOOP_IN_FLIGHT: Final = (0.06, 0.25)
#: seconds without a packet from which on a connection counts as silent.
LOOP_SILENCE: Final = 0.03
#: rounds in which a connection has to move because something is sent, and as many in which
#: it has to rest because nothing is.
LOOP_ROUNDS: Final = 3
#: bytes of packets that each capture sends for that.
LOOP_PULSE: Final = 1 * KIB
#: tests at most, more of them for each capture that begins (for a loop begins with one), and
#: each second: so that long captures are rarely delayed.
LOOP_TESTS: Final = (10, 5, 0.05)
#: seconds that a connection which went on is not tested again: at first, four times as long
#: after each further test, and at most.
LOOP_REST: Final = (0.1, 60.0)
#: connections that an agent leaves out at once because they are part of a loop.
EXCLUDED_CONNECTIONS_MAX: Final = 32
#: seconds for which such a connection is left out.  A loop is found again within a second;
#: an innocent connection is missing for no longer than that.
EXCLUSION_TIME: Final = 300.0

# --- buffers -----------------------------------------------------------------

#: bytes; a transport that holds more pauses whoever feeds it.
SEND_BUFFER: Final = 512 * KIB
#: bytes read from a socket per wake-up.
READ_PIECE: Final = 512 * KIB
#: bytes read per wake-up from a peer that connected to us: requests and control frames.
ACCEPTED_READ: Final = 4 * KIB
#: bytes that wait to be sent on a connection that has not authenticated: some answers, or a piece of a file.
STRANGER_BUFFER: Final = 8 * KIB
#: bytes of further requests that wait while one of their connection is answered.
PIPELINED_MAX: Final = 4 * KIB
#: bytes of packets that an ordered merge holds back before it gives up order.
HOLD_BACK_BYTES: Final = 64 * MIB
#: seconds that an ordered merge waits for a source that shows no watermark, while others are heard.
HOLD_BACK_TIME: Final = 1.0
#: bytes, and seconds, that wait to be compressed together (``x.pcapng.gz``): what a kill loses at most.
GZIP_WAITING: Final = (512 * KIB, 2.0)
#: bytes that a WebSocket client may send in one message: it only ever sends control frames.
CLIENT_MESSAGE_MAX: Final = 2 * CONTROL_MAX

#: notices that a client's report keeps; more are counted.
REPORT_NOTICES_MAX: Final = 1000
#: characters of each of them.
REPORT_NOTICE_MAX: Final = 1000

#: lines that wait for a terminal that does not read; older ones are left out.
TERMINAL_LINES_MAX: Final = 250
#: characters of each of them; the longest names a filter in force.
TERMINAL_LINE_MAX: Final = EFFECTIVE_FILTER_MAX + KIB

# --- the same packet at two places (pcapctl --packet-ids, flows) ----------------

#: seconds between two sightings of a packet: its way, and what clocks differ.
MATCH_WINDOW: Final = 2.0
#: packets that are remembered for that; some 100 bytes each.
MATCH_PACKETS_MAX: Final = 1_000_000
#: the same in plain Python, where each takes some 500 bytes.
MATCH_PACKETS_MAX_PURE: Final = 100_000
#: sightings of equal packets that are looked through for the one that belongs to a sighting.
MATCH_REPEATS_MAX: Final = 256

#: flows that are told apart; further ones are counted together.
FLOWS_MAX: Final = 10_000
#: delays of a flow between two places that are kept for the median; of more, a sample.
FLOW_DELAYS: Final = 1000
#: pairs of places of all flows together, each with its delays.
FLOW_PAIRS_MAX: Final = 20_000

# --- what went wrong (pcapctl explain) --------------------------------------------

#: conversations that are followed at a time, each counted for each place, some 1 KB; more
#: close those that were silent for longest.
CONVERSATIONS_MAX: Final = 131_072
#: the same in plain Python, where each takes some 4 KB.
CONVERSATIONS_MAX_PURE: Final = 20_000
#: seconds between two sightings of a packet: its way, and what clocks differ.
EXPLAIN_WINDOW: Final = 10.0
#: seconds of silence that count: less than any idle timeout in use (Node.js closes after 5 s).
IDLE_TIME: Final = 4.0
#: bytes of all connections together that wait for a packet before them.
EXCHANGE_BYTES: Final = 32 * MIB
#: different findings; more are counted.
FINDINGS_MAX: Final = 1000
#: conversations and requests that are shown.
WORST_CONVERSATIONS: Final = 100
#: findings that are shown as text where not all are asked for: a screenful.
FINDINGS_SHOWN: Final = 10

# --- files that are read (pcapctl flows) ----------------------------------------

#: bytes of a block; the largest packet and its options are far below.
BLOCK_MAX: Final = 16 * MIB
#: bytes of a file that are read at a time.
FILE_READ_SIZE: Final = MIB
#: interfaces of a file.
FILE_INTERFACES_MAX: Final = 65536

# --- PCAP-over-IP (pcapctl --serve) --------------------------------------------

#: readers at once.
SERVE_READERS_MAX: Final = 8
#: bytes that a reader may be behind when more comes; it is cut off then.  As much
#: as the merge may let go at once.  Readers share the bytes: this is not per reader.
SERVE_BACKLOG: Final = 64 * MIB
#: at the end, for readers to take the rest: seconds without progress, and in all.
SERVE_LAST_TIME: Final = (5.0, 60.0)

# --- work that a peer causes ---------------------------------------------------

#: answers (PONGs) and small frames of one peer in a row, and per second after that.  An honest
#: peer pings every few seconds, also while it does not read (up to `TCP_USER_TIMEOUT`).
ANSWERS_BURST: Final = 256
ANSWERS_PER_SECOND: Final = 64

# --- log lines that others cause -------------------------------------------------

#: seconds; further lines of the same peer in this time are counted and become one line.
SUM_INTERVAL: Final = 1.0
#: peers whose lines are counted separately; further peers share one line.
SUM_PEERS_MAX: Final = 64

# --- the audit log ---------------------------------------------------------------

#: seconds between checks whether audit records can be written.
AUDIT_CHECK_INTERVAL: Final = 2.0
#: bytes of free disk that running captures need to record their ends; on a small file
#: system it is an eighth of it.
AUDIT_RESERVE: Final = 1 * MIB

# --- time, seconds -----------------------------------------------------------

#: between two turns of a loop that nothing holds up (`pcapd.running`): twice what pcapctl
#: sleeps, five times the interval of counters.
TURN_MAX: Final = 0.5
#: between two looks at whether the other end of an agent's connection is silent.  So much of
#: a pause of our own counts as its silence, so it is less than `STOP_STALL_TIMEOUT`.
SILENCE_TURN: Final = 1.0
#: lateness of a timer that shows that we were held up ourselves, and the time that the peer
#: gets then, once, so that we read first what it sent before.
LATE: Final = 0.1
LATE_GRACE: Final = 1.0
#: between the counters of a source; also its watermark's age when it is silent.
STATS_INTERVAL: Final = 0.1
#: for TLS and HELLO after a connection was accepted or made.
HANDSHAKE_TIMEOUT: Final = 5.0
#: for the whole head of an HTTP request, from the connection or the answer before.
REQUEST_TIMEOUT: Final = 15.0
#: for a client to read an answer, and the bytes of a file that give it a second more:
#: 131 kbit/s, which is slower than any line over which somebody downloads megabytes.
ANSWER_TIMEOUT: Final = 15.0
ANSWER_RATE_MIN: Final = 16 * KIB
#: for START after a client or api connected.
START_TIMEOUT: Final = 8.0
#: targets of a capture from which on its agents start together, once all are connected
#: or have failed.  Fewer are connected well within `HOLD_BACK_TIME`, and do not wait.
GATHER_TARGETS: Final = 32
#: for one more of them to be connected, and in all from the first one on: whoever is
#: later starts alone.  An agent waits no longer than `START_TIMEOUT`.
GATHER_PATIENCE: Final = 0.5
GATHER_TIME: Final = 4.0
#: for an agent to accept a connection, when the api's configuration does not say.
AGENT_CONNECT_TIMEOUT: Final = 5.0
#: after the duration that a client asked for over a WebSocket, until the api ends the capture:
#: the client's own clock begins a little later, and it stops by itself.
DURATION_GRACE: Final = 2.0
#: for an interface that was removed to be made again, and between looks at which there are.
INTERFACE_RETURN: Final = 15.0
INTERFACE_LOOK_INTERVAL: Final = 1.0
#: for opening the capture on an agent.
OPEN_TIMEOUT: Final = 10.0
#: between PINGs to an agent; agents never block, so silence means trouble.
AGENT_PING_INTERVAL: Final = 2.0
#: without any byte from the other end of an agent's connection.
AGENT_SILENCE_TIMEOUT: Final = 10.0
#: between PINGs to a client; below the 60 s after which load balancers cut.
CLIENT_PING_INTERVAL: Final = 20.0
#: without an answer from a client.  Generous: a client whose disk or pipe is
#: stuck, or that was stopped, is slow and not dead.  TCP finds the dead ones.
CLIENT_SILENCE_TIMEOUT: Final = 120.0
#: without any byte from the api, at a client: three of its pings.
API_SILENCE_TIMEOUT: Final = 60.0
#: TCP keep-alive: idle, interval (seconds), probes.
TCP_KEEPALIVE: Final = (10, 5, 3)
#: TCP_USER_TIMEOUT towards clients.  Linux counts a closed window too, so this is
#: also how long a client may be stuck.
TCP_USER_TIMEOUT: Final = 120.0
#: After STOP the waits nest: an agent that stops moving is given up by the api, alone,
#: before the client gives up the api and with it everybody's packets.
#:
#: between two looks of the api at whether its agents still move.
STOP_WATCH_INTERVAL: Final = 0.25
#: without movement of an agent, until the api gives it up.
STOP_STALL_TIMEOUT: Final = 1.5
#: bytes that are a movement, as a whole frame is: a slow line carries less than a frame in
#: that time, and a peer that sends a byte now and then never gets there.
STOP_STALL_BYTES: Final = 4 * KIB
#: until the api gives up an agent whatever it still sends, and a daemon ends whatever still runs.
DRAIN_TIMEOUT: Final = 10.0
#: for what the api says then to reach its clients, over a slow line too.
DRAIN_LINGER: Final = 3.0
#: without `STOP_STALL_BYTES` of packets from the api, until its client gives it up.
API_STOP_TIMEOUT: Final = DRAIN_TIMEOUT + STOP_WATCH_INTERVAL + DRAIN_LINGER
#: until the client leaves although packets come: the api bears a client that holds it up
#: for `CLIENT_SILENCE_TIMEOUT`.
API_STOP_LIMIT: Final = API_STOP_TIMEOUT + CLIENT_SILENCE_TIMEOUT

#: at the end, for a terminal that takes nothing of the report.
TERMINAL_PATIENCE: Final = 10.0

# --- containers --------------------------------------------------------------

#: bytes; the metadata of a cell's containers.  One takes some 1.2 KB, and a cell has a few hundred at most.
STORE_MAX: Final = 8 * MIB
#: seconds to wait for the store's lock: its writers hold it for milliseconds.
STORE_LOCK_TIMEOUT: Final = 1.0
#: attempts to read a store whose lock cannot be had, and seconds between them:
#: it is written in place, so an empty or half file is normal for a moment.
STORE_ATTEMPTS: Final = 5
STORE_ATTEMPT_INTERVAL: Final = 0.02
#: seconds for ``runc state``, which takes some 20 ms; it is asked twice within `OPEN_TIMEOUT`.
RUNC_TIMEOUT: Final = 3.0
#: bytes; what ``runc state`` may say, and a container's state.json (some 20 KiB).
RUNC_OUTPUT_MAX: Final = 1 * MIB

# --- authorities: Cloud Controller, UAA, BOSH directors -----------------------

#: bytes of one answer.  Process stats take some 700 bytes per instance, and an app may have `INSTANCES_MAX`.
AUTHORITY_BODY_MAX: Final = 8 * MIB
#: bytes of what surrounds it: status lines, headers, the lengths of chunks.
AUTHORITY_HEADERS_MAX: Final = 128 * KIB
#: seconds for one answer, all of its bytes included.
AUTHORITY_CALL_TIMEOUT: Final = 10.0
#: seconds for everything that one request needs to be told.
AUTHORITY_TIMEOUT: Final = 30.0
#: questions that are being asked at once; more wait, within their time.  One client takes
#: a place only while more are free than it has already: half of them when it is alone.
AUTHORITY_CALLERS: Final = 32
#: questions that wait for such a place, in all and of one client.  Each holds its token
#: and its request, some 25 KB at most.
AUTHORITY_WAITING: Final = 256
AUTHORITY_WAITING_EACH: Final = 64
#: seconds after which a client is to come back whose question had no room to wait.
AUTHORITY_FULL_RETRY: Final = 2
#: connections to one authority that are kept while nothing is asked, and seconds for
#: which each is: below the 20 s after which the first servers close such a connection.
AUTHORITY_KEPT: Final = AUTHORITY_CALLERS
AUTHORITY_IDLE_TIME: Final = 15
#: pages of one list.  Each holds 50 entries unless asked otherwise.
AUTHORITY_PAGES_MAX: Final = 20
#: processes of one type of one app: two while a deployment rolls.
PROCESSES_MAX: Final = 8
#: characters of a token: a few KB even with very many scopes.
TOKEN_MAX: Final = 16 * KIB
#: seconds between looks at whether an authority is there, while it is.
AUTHORITY_CHECK_INTERVAL: Final = 60.0
#: seconds until the first new attempt while it is not, and the most; doubled between.
AUTHORITY_RETRY: Final = (1.0, 30.0)
#: seconds between two requests for UAA's keys, at least: tokens with unknown key ids
#: must not become a flood of requests.
KEYS_INTERVAL: Final = 5.0
#: seconds that keys are believed without having been asked for again.  They are asked for
#: with every look at the director, so this only counts while UAA is away.
KEYS_AGE_MAX: Final = 600.0
#: keys of one UAA: it has one or two, and a few more while they rotate.
KEYS_MAX: Final = 64
#: bits of an RSA key that is believed.
KEY_BITS: Final = (2048, 8192)
#: characters of a key's id.
KEY_ID_MAX: Final = 256
#: seconds that UAA's clock may be ahead of ours: a new token is not refused for that.  Our
#: clock may be as much ahead of Cloud Controller's, which decides itself when a token has
#: expired; for BOSH we decide, and an expired one gets no grace.
TOKEN_LEEWAY: Final = 10.0

# --- pcapctl before the capture, seconds ----------------------------------------

#: for one exchange with a server: from its name to the last byte of its answer, however
#: slowly they come.  Cloud Controller takes some seconds where it is busy.
EXCHANGE_TIMEOUT: Final = 30.0
#: of these at most for each step of a connection: its name, TCP to one address, TLS.
CONNECT_TIMEOUT: Final = 10.0
#: for the api to open a first source.  More than everything that it may wait for itself, one
#: after the other, so that it is the api that says what was too slow.
_FIRST_AGENT: Final = AGENT_CONNECT_TIMEOUT + 2 * HANDSHAKE_TIMEOUT + GATHER_TIME + OPEN_TIMEOUT
API_START_TIMEOUT: Final = AUTHORITY_TIMEOUT + _FIRST_AGENT + DRAIN_LINGER
#: seconds to wait, at an early end, for Wireshark's window to open the toolbar's pipe; later it would hang.
TOOLBAR_TIMEOUT: Final = 30.0

# --- following an app ---------------------------------------------------------

#: seconds between looks at where an app's instances are.
FOLLOW_INTERVAL: Final = 10.0
#: of the interval, up or down, so that captures do not ask in step.
FOLLOW_JITTER: Final = 0.2
#: seconds between them at most, while Cloud Controller cannot be asked.
FOLLOW_INTERVAL_MAX: Final = 80.0
#: attempts to capture one container.
FOLLOW_ATTEMPTS: Final = 5

# --- daemon ------------------------------------------------------------------

#: connections that an agent or api accepts at once.
CONNECTIONS_MAX: Final = 1024
#: of these, connections that have sent something and have not authenticated.  The worst of
#: them, which does not read its answers, takes some 60 KiB with its TLS; a silent one less than 2.
STRANGERS_MAX: Final = 384
#: connections that wait in the kernel to be accepted; net.core.somaxconn may be less.
ACCEPT_QUEUE: Final = 4096
#: captures at once on one agent, when its configuration does not say.
AGENT_CAPTURES: Final = 16
#: bytes; a configuration file.
CONFIG_MAX: Final = 1 * MIB

# --- configuration -------------------------------------------------------------

#: bytes; smallest and largest ring that can be configured: a smaller one loses packets at any
#: rate, a larger one takes too much memory.
RING_BYTES_RANGE: Final = (MIB, 1024 * MIB)
#: captures, in all or of one user, at once, that can be configured; more is surely a typing error.
CAPTURES_MAX: Final = 1024
#: bytes (1 PiB) of a capture that can be configured: larger than any disk, and far below 64 bits.
CAPTURE_BYTES_MAX: Final = 1024**5
#: characters of a key of the configuration that a message shows.
KEY_SHOWN_MAX: Final = 64

# --- turns: how much at once, and how often ------------------------------------

#: connections that a port accepts per wake-up.
ACCEPTS_PER_WAKEUP: Final = 100
#: bytes written to a socket per wake-up, so that one peer cannot starve the others.
WRITE_PIECE: Final = 256 * KIB
#: seconds between warnings that a port is full; a flood reaches the limit many times a second.
PORT_FULL_INTERVAL: Final = 10.0
#: seconds until a port accepts again after the machine had no room for another connection.
NO_ROOM_PAUSE: Final = 0.1
#: seconds between looks at whether the last clients of a draining api have read everything.
DRAIN_LOOK_INTERVAL: Final = 0.05
#: seconds between looks at what an ordered merge may release.
RELEASE_INTERVAL: Final = 0.05
#: seconds between blocks of statistics in a file.
STATISTICS_INTERVAL: Final = 5.0
#: of the time until the next check of an authority, up or down, so that apis do not ask in step.
AUTHORITY_JITTER: Final = 0.2
#: seconds between attempts to lock the containers' store.
STORE_LOCK_INTERVAL: Final = 0.01
#: bytes of /proc/PID/stat; it has some 300.
PROCESS_STAT_MAX: Final = 4 * KIB
#: seconds between looks at whether the requester of a long filter still waits.
FILTER_LOOK_INTERVAL: Final = 0.1
#: bytes of what the process that tries a filter writes at a time.
TRIAL_ANSWER_MAX: Final = 64 * KIB
#: bytes of one netlink message from the kernel, which sends at most 32 KiB.
NETLINK_ANSWER_MAX: Final = 256 * KIB
#: errors in a row of an interface that exists, without a packet between them, until its capture fails.
INTERFACE_ERRORS_MAX: Final = 100
#: microseconds; several processors fill one ring, so that its packets can be this much out of
#: order.  Agent and merge must agree on it.
RING_DISORDER_US: Final = 1000
#: seconds of captured time between two looks at a source's busiest connections.
LOOP_LOOK_INTERVAL: Final = 0.005
#: seconds between looks during a test for loops.
LOOP_JUDGE_INTERVAL: Final = 0.005
#: a round of a test begins after this many times the slowest answer, at most so many seconds later.
LOOP_PATIENCE: Final = (2, 0.12)
#: seconds that rounds last longer than they have to, at random.
LOOP_JITTER: Final = 0.02
#: instances, VMs or keys that one message lists.
LISTED_MAX: Final = 10
