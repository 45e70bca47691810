"""Every bound, with its unit and its reason.

Input from a peer or a user is checked against these before memory is allocated
for it.  docs/memory.rst shows where each buffer is on the path of a packet.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024

# --- frames (docs/wire-protocol.rst) -----------------------------------------

#: bytes; payload of a PACKETS frame that we send.  Large enough to make the cost
#: per frame negligible, small enough that eight frames fit into a socket buffer.
FRAME_TYPICAL: Final = 256 * KIB
#: bytes; payload of any frame that we accept.  Larger frames are refused by their header.
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
#: packets per next_batch call: more thrash the allocator (measured), fewer make too many calls.
BATCH_PACKETS: Final = 512
#: batches per wake-up of the reactor, so that one busy interface cannot starve the control connection.
BATCHES_PER_WAKEUP: Final = 4
#: milliseconds after which the kernel hands over a ring block that is not full.
BLOCK_TIMEOUT_MS: Final = 4
#: bytes; default of libpcap's ring per capture.
RING_BYTES: Final = 16 * MIB
#: seconds for which a packet can stay in a ring block before we see it: the block
#: timeout and the kernel's timer granularity, with a reserve.  A watermark is this
#: far behind the clock, and a stop waits this long for the last block.
RING_LAG: Final = 0.025

# --- requests ----------------------------------------------------------------

#: characters of a BPF filter.
FILTER_MAX: Final = 5000
#: characters of a BPF filter that is compiled without a trial in another process:
#: the worst known filter of this length takes libpcap 25 ms, with Python's lock held.
FILTER_QUICK: Final = 150
#: seconds of processor time for the trial of a longer filter, and again for compiling
#: it.  100 addresses take 0.1 s, 200 take 0.7 s.
FILTER_COMPILE_CPU: Final = 1.0
#: seconds of elapsed time for that trial, on a busy machine; within `OPEN_TIMEOUT`.
FILTER_COMPILE_TIMEOUT: Final = 5.0
#: threads of an agent that open or close captures, at most half of them for one user.
AGENT_THREADS: Final = 4
#: long filters that an agent compiles at once, one for each user, so that enough
#: processor time is left for captures.
TRIALS_MAX: Final = 4
#: seconds to wait for a turn; within `OPEN_TIMEOUT`.
FILTER_TURN_TIMEOUT: Final = 8.0
#: compiled long filters that an agent caches: instances of one app share a filter.
COMPILED_FILTERS_KEPT: Final = 64
#: characters of the filter in the kernel: the user's filter and the exclusions.
EFFECTIVE_FILTER_MAX: Final = 32 * KIB
#: filters of the api's policy, whose packets are excluded from all captures.
POLICY_FILTERS_MAX: Final = 16
#: characters of all these filters together.
POLICY_FILTERS_LENGTH_MAX: Final = 2000
#: addresses of an interface that are reported.
ADDRESSES_MAX: Final = 64
#: instances of one app.
INSTANCES_MAX: Final = 10000
#: interfaces in one request.
INTERFACES_MAX: Final = 8
#: characters of a name (target, interface, instance) that we accept.
NAME_MAX: Final = 256
#: characters of the message of a notice, an error or an END that we send.  Several messages
#: fit into a control frame even if every character is escaped as six.
TEXT_MAX: Final = 2048
#: characters of the reason that a user gives for a capture.
REASON_MAX: Final = 500
#: entries of X-Forwarded-For that are read.
FORWARDED_MAX: Final = 32
#: IP addresses of a machine by which its own traffic is recognised.  On a machine with
#: more addresses, the traffic of every address that uses pcapd's ports is excluded.
OWN_ADDRESSES_MAX: Final = 24
#: TCP ports of agents to which one api connects.
AGENT_PORTS_MAX: Final = 16

# --- loops: captured packets that come back (pcapd/agent/loops.py) --------------

#: packets, or bytes, of a connection in the examined traffic from which on it is
#: suspected of carrying captured packets.
LOOP_SUSPICIOUS: Final = (100, 32 * KIB)
#: connections that are watched at the same time.
LOOP_SUSPECTS_MAX: Final = 256
#: seconds of a test, and of one of its rounds.  A test ends after 0.06 s if no connection
#: becomes silent, and after 0.2 s if one does; only a very busy machine needs more.
LOOP_TEST_TIME: Final = 3.0
LOOP_ROUND_TIME: Final = 0.45
#: bytes that all captures of an agent together may withhold.
LOOP_TEST_BYTES: Final = 32 * MIB
#: seconds to wait for packets in flight after packets are withheld, and for a reaction after
#: some are sent; a connection with later traffic is not part of a loop.  The second value is
#: for connections that were tested before or have reacted: some pass through a capture that
#: the api orders, and some machines are busy.
LOOP_IN_FLIGHT: Final = (0.06, 0.25)
#: seconds without a packet after which a connection counts as silent.
LOOP_SILENCE: Final = 0.03
#: rounds in which a connection must have traffic because packets are sent, and equally many
#: in which it must be silent because none are.
LOOP_ROUNDS: Final = 3
#: bytes of packets that each capture sends in such a round.
LOOP_PULSE: Final = 1 * KIB
#: tests at first, additional ones for each capture that starts (a loop starts with a
#: capture), and per second: so that long captures are rarely delayed.
LOOP_TESTS: Final = (10, 5, 0.05)
#: seconds for which a connection that kept its traffic is not tested again: at first
#: (four times as long after each further test), and at most.
LOOP_REST: Final = (0.1, 60.0)
#: connections that an agent excludes at the same time because they are part of a loop.
EXCLUDED_CONNECTIONS_MAX: Final = 32
#: seconds for which such a connection is excluded.  A loop is found again within a second;
#: a connection that was excluded by mistake is missing for no longer than this.
EXCLUSION_TIME: Final = 300.0

# --- buffers -----------------------------------------------------------------

#: bytes; a transport with more buffered data pauses its producer.
SEND_BUFFER: Final = 512 * KIB
#: bytes read from a socket per wake-up.
READ_PIECE: Final = 512 * KIB
#: bytes read per wake-up from a peer that connected to us: requests and control frames.
ACCEPTED_READ: Final = 4 * KIB
#: bytes that wait to be sent on an unauthenticated connection: some answers, or a part of a file.
STRANGER_BUFFER: Final = 8 * KIB
#: bytes of further requests that wait while an earlier one of the same connection is answered.
PIPELINED_MAX: Final = 4 * KIB
#: bytes of packets that an ordered merge holds back before it abandons the order.
HOLD_BACK_BYTES: Final = 64 * MIB
#: seconds for which an ordered merge waits for a source without a watermark while others send.
HOLD_BACK_TIME: Final = 1.0
#: the same for a merge with sources over ssh: tcpdump gets a packet up to a second after its time.
SSH_HOLD_BACK_TIME: Final = 2.5
#: bytes, and seconds, that wait to be compressed together (``x.pcapng.gz``): the most that a kill loses.
GZIP_WAITING: Final = (512 * KIB, 2.0)
#: bytes that a WebSocket client may send in one message: it sends only control frames.
CLIENT_MESSAGE_MAX: Final = 2 * CONTROL_MAX

#: notices in a client's report; further ones are only counted.
REPORT_NOTICES_MAX: Final = 1000
#: characters of each of these notices.
REPORT_NOTICE_MAX: Final = 1000

#: lines that wait for a terminal that does not read; older lines are dropped.
TERMINAL_LINES_MAX: Final = 250
#: characters of each of these lines; the longest contains the effective filter.
TERMINAL_LINE_MAX: Final = EFFECTIVE_FILTER_MAX + KIB

# --- the same packet at two places (pcapctl --packet-ids, flows) ----------------

#: seconds between two sightings of a packet: travel time and clock difference.
MATCH_WINDOW: Final = 2.0
#: packets that are remembered for this; some 100 bytes each.
MATCH_PACKETS_MAX: Final = 1_000_000
#: the same in plain Python, where each takes some 500 bytes.
MATCH_PACKETS_MAX_PURE: Final = 100_000
#: sightings of equal packets that are searched for the match of a sighting.
MATCH_REPEATS_MAX: Final = 256

#: separate flows; further ones are counted together.
FLOWS_MAX: Final = 10_000
#: delays of a flow between two places that are kept for the median; beyond this, a sample.
FLOW_DELAYS: Final = 1000
#: pairs of places of all flows together, each with its delays.
FLOW_PAIRS_MAX: Final = 20_000

# --- what went wrong (pcapctl explain) --------------------------------------------

#: conversations that are followed at a time, each counted for each place, some 600 bytes; beyond
#: this, those that have been silent longest are closed.
CONVERSATIONS_MAX: Final = 262_144
#: the same in plain Python, where each takes some 4 KB.
CONVERSATIONS_MAX_PURE: Final = 20_000
#: seconds between two sightings of a packet: travel time and clock difference.
EXPLAIN_WINDOW: Final = 10.0
#: packets that are remembered for this, some 200 bytes each.
EXPLAIN_PACKETS_MAX: Final = 131_072
#: seconds of silence that are recorded: less than any idle timeout in use (Node.js closes after 5 s).
IDLE_TIME: Final = 4.0
#: conversations whose content is read at a time, some 2 KB each; beyond this, the content of those
#: between two requests is forgotten, and beyond twice as many that of the oldest.
EXCHANGES_MAX: Final = 4096
#: bytes of all connections together that wait for an earlier packet.
EXCHANGE_BYTES: Final = 32 * MIB
#: bytes of the header tables and requests under way of all HTTP/2 connections together; some KiB for each.
HTTP2_BYTES: Final = 32 * MIB
#: different findings; further ones are only counted.
FINDINGS_MAX: Final = 1000
#: conversations and requests in the report.
WORST_CONVERSATIONS: Final = 100
#: findings that are shown as text without --all: a screenful.
FINDINGS_SHOWN: Final = 10
#: bytes of packets that wait for the process that explains a capture (--explain); when there are
#: more, packets are skipped.  As much as the merge may release at once.
EXPLAIN_BACKLOG: Final = 64 * MIB
#: seconds between two counts of the findings while a capture runs.
EXPLAIN_COUNT_INTERVAL: Final = 2.0
#: bytes of that process's result; FINDINGS_MAX findings have less than 2 MB.
EXPLAIN_RESULT_MAX: Final = 16 * MIB

# --- files that are read (pcapctl flows) ----------------------------------------

#: bytes of a block; the largest packet with its options is far smaller.
BLOCK_MAX: Final = 16 * MIB
#: bytes of a file that are read at a time.
FILE_READ_SIZE: Final = MIB
#: interfaces of a file.
FILE_INTERFACES_MAX: Final = 65536

# --- PCAP-over-IP (pcapctl --serve) --------------------------------------------

#: readers at once.
SERVE_READERS_MAX: Final = 8
#: bytes that a reader may be behind before it is disconnected.  As much as the merge may
#: release at once.  Readers share the bytes: this is not per reader.
SERVE_BACKLOG: Final = 64 * MIB
#: for readers to receive the rest at the end: seconds without progress, and in all.
SERVE_LAST_TIME: Final = (5.0, 60.0)

# --- work that a peer causes ---------------------------------------------------

#: answers (PONGs) and small frames of one peer in a burst, and per second after that.  A normal
#: peer pings every few seconds, also while it does not read (up to `TCP_USER_TIMEOUT`).
ANSWERS_BURST: Final = 256
ANSWERS_PER_SECOND: Final = 64

# --- log lines that others cause -------------------------------------------------

#: seconds; further lines about the same peer within this time are counted in one line.
SUM_INTERVAL: Final = 1.0
#: peers whose lines are counted separately; further peers share one line.
SUM_PEERS_MAX: Final = 64

# --- the audit log ---------------------------------------------------------------

#: seconds between checks that audit records can be written.
AUDIT_CHECK_INTERVAL: Final = 2.0
#: bytes of free disk that running captures need to record their ends; on a small file
#: system it is an eighth of it.
AUDIT_RESERVE: Final = 1 * MIB
#: audit records that wait for syslog over TLS to acknowledge them; one has at most some 100 KB.
AUDIT_QUEUE_MAX: Final = 500
#: seconds that syslog over TLS has to accept a connection or records.
SYSLOG_TIMEOUT: Final = 5.0
#: seconds between attempts to connect.
SYSLOG_RETRY: Final = 1.0
#: seconds that the receiver at a Unix socket has to make room; the api does nothing else meanwhile.
SYSLOG_LOCAL_TIMEOUT: Final = 0.2

# --- time, seconds -----------------------------------------------------------

#: between two turns of a loop that is not blocked (`pcapd.running`): twice the sleep of
#: pcapctl, five times the interval of counters.
TURN_MAX: Final = 0.5
#: between two checks whether the other end of an agent's connection is silent.  This much of
#: a pause of our own counts as its silence, so it is less than `STOP_STALL_TIMEOUT`.
SILENCE_TURN: Final = 1.0
#: lateness of a timer that shows that we were blocked ourselves, and the extra time that the
#: peer then gets, once, so that we first read what it had already sent.
LATE: Final = 0.1
LATE_GRACE: Final = 1.0
#: between the counters of a source; also the age of its watermark while it is silent.
STATS_INTERVAL: Final = 0.1
#: for TLS and HELLO after a connection was accepted or made.
HANDSHAKE_TIMEOUT: Final = 5.0
#: for the whole head of an HTTP request, from the connection or the previous answer.
REQUEST_TIMEOUT: Final = 15.0
#: for a client to read an answer, and the bytes of a file that add one second to it:
#: 131 kbit/s, slower than any line used to download megabytes.
ANSWER_TIMEOUT: Final = 15.0
ANSWER_RATE_MIN: Final = 16 * KIB
#: for START after a client or api connected.
START_TIMEOUT: Final = 8.0
#: targets of a capture from which on its agents start together, once all are connected
#: or have failed.  Fewer are connected well within `HOLD_BACK_TIME`, so they do not wait.
GATHER_TARGETS: Final = 32
#: for one more of them to be connected, and in all from the first one on: a later agent
#: starts alone.  An agent waits no longer than `START_TIMEOUT`.
GATHER_PATIENCE: Final = 0.5
GATHER_TIME: Final = 4.0
#: for an agent to accept a connection: the default of the api's configuration.
AGENT_CONNECT_TIMEOUT: Final = 5.0
#: after the duration that a WebSocket client requested, until the api ends the capture:
#: the client starts to count a little later, and stops by itself.
DURATION_GRACE: Final = 2.0
#: for a removed interface to be created again, and between checks of the existing interfaces.
INTERFACE_RETURN: Final = 15.0
INTERFACE_LOOK_INTERVAL: Final = 1.0
#: for opening the capture on an agent.
OPEN_TIMEOUT: Final = 10.0
#: between PINGs to an agent; agents never block, so silence is a failure.
AGENT_PING_INTERVAL: Final = 2.0
#: without any byte from the other end of an agent's connection.
AGENT_SILENCE_TIMEOUT: Final = 10.0
#: between PINGs to a client; below the 60 s after which load balancers close connections.
CLIENT_PING_INTERVAL: Final = 20.0
#: without an answer from a client.  Generous: a client whose disk or pipe is
#: stuck, or that is suspended, is slow and not dead.  TCP detects dead ones.
CLIENT_SILENCE_TIMEOUT: Final = 120.0
#: without any byte from the api, at a client: three of its pings.
API_SILENCE_TIMEOUT: Final = 60.0
#: TCP keep-alive: idle, interval (seconds), probes.
TCP_KEEPALIVE: Final = (10, 5, 3)
#: TCP_USER_TIMEOUT for clients.  Linux counts a closed window too, so this is also
#: how long a client may be stuck.
TCP_USER_TIMEOUT: Final = 120.0
#: After STOP the waits nest: the api gives up a single agent that makes no progress before
#: the client gives up the api, and with it the packets of all agents.
#:
#: between two checks of the api that its agents make progress.
STOP_WATCH_INTERVAL: Final = 0.25
#: without progress of an agent, until the api gives it up.
STOP_STALL_TIMEOUT: Final = 1.5
#: bytes that count as progress, as does a whole frame: a slow line carries less than a frame
#: in that time, and a peer that sends a byte now and then never reaches this.
STOP_STALL_BYTES: Final = 4 * KIB
#: until the api gives up an agent even if it still sends, and a daemon ends all running captures.
DRAIN_TIMEOUT: Final = 10.0
#: for the api's last messages to reach its clients, over a slow line too.
DRAIN_LINGER: Final = 3.0
#: without `STOP_STALL_BYTES` of packets from the api, until the client gives it up.
API_STOP_TIMEOUT: Final = DRAIN_TIMEOUT + STOP_WATCH_INTERVAL + DRAIN_LINGER
#: until the client leaves although packets arrive: the api tolerates a client that blocks it
#: for `CLIENT_SILENCE_TIMEOUT`.
API_STOP_LIMIT: Final = API_STOP_TIMEOUT + CLIENT_SILENCE_TIMEOUT

#: at the end, for a terminal that does not read the report.
TERMINAL_PATIENCE: Final = 10.0

# --- containers --------------------------------------------------------------

#: bytes; the metadata of a cell's containers.  One takes some 1.2 KB, and a cell has a few hundred at most.
STORE_MAX: Final = 8 * MIB
#: seconds to wait for the store's lock, which writers hold for milliseconds.
STORE_LOCK_TIMEOUT: Final = 1.0
#: attempts to read a store whose lock is not available, and seconds between them:
#: it is written in place, so an empty or incomplete file is normal for a moment.
STORE_ATTEMPTS: Final = 5
STORE_ATTEMPT_INTERVAL: Final = 0.02
#: seconds for ``runc state``, which takes some 20 ms and runs twice within `OPEN_TIMEOUT`.
RUNC_TIMEOUT: Final = 3.0
#: bytes; the output of ``runc state``, and a container's state.json (some 20 KiB).
RUNC_OUTPUT_MAX: Final = 1 * MIB

# --- authorities: Cloud Controller, UAA, BOSH directors -----------------------

#: bytes of one answer.  Process stats take some 700 bytes per instance, and an app may have `INSTANCES_MAX`.
AUTHORITY_BODY_MAX: Final = 8 * MIB
#: bytes around the content: status lines, headers, the lengths of chunks.
AUTHORITY_HEADERS_MAX: Final = 128 * KIB
#: seconds for one answer, up to its last byte.
AUTHORITY_CALL_TIMEOUT: Final = 10.0
#: seconds for all answers that one request needs.
AUTHORITY_TIMEOUT: Final = 30.0
#: requests to authorities in progress; more wait, within their time.  A client gets a slot
#: only while more slots are free than it already has: half of them if it is alone.
AUTHORITY_CALLERS: Final = 32
#: requests that wait for such a slot, in all and of one client.  Each holds its token and
#: its request, some 25 KB at most.
AUTHORITY_WAITING: Final = 256
AUTHORITY_WAITING_EACH: Final = 64
#: seconds after which a client should retry whose request could not wait.
AUTHORITY_FULL_RETRY: Final = 2
#: idle connections to one authority that are kept open, and for how many seconds: below the
#: 20 s after which some servers close idle connections.
AUTHORITY_KEPT: Final = AUTHORITY_CALLERS
AUTHORITY_IDLE_TIME: Final = 15
#: pages of one list.  Each contains 50 entries by default.
AUTHORITY_PAGES_MAX: Final = 20
#: processes of one type of one app: two while a deployment rolls.
PROCESSES_MAX: Final = 8
#: characters of a token: a few KB even with very many scopes.
TOKEN_MAX: Final = 16 * KIB
#: seconds between checks of an authority while it is available.
AUTHORITY_CHECK_INTERVAL: Final = 60.0
#: seconds until the first retry while it is not available, and at most; doubled in between.
AUTHORITY_RETRY: Final = (1.0, 30.0)
#: minimum seconds between two requests for UAA's keys: tokens with unknown key ids must
#: not cause a flood of requests.
KEYS_INTERVAL: Final = 5.0
#: seconds for which keys are used without being fetched again.  They are fetched with every
#: check of the director, so this applies only while UAA is not available.
KEYS_AGE_MAX: Final = 600.0
#: keys of one UAA: it has one or two, and a few more during rotation.
KEYS_MAX: Final = 64
#: minimum bits of an RSA key.
KEY_BITS: Final = (2048, 8192)
#: characters of a key's id.
KEY_ID_MAX: Final = 256
#: seconds by which UAA's clock may be ahead of ours without a new token being refused.  Our
#: clock may be equally far ahead of Cloud Controller's, which decides itself when a token has
#: expired; for BOSH we decide, and an expired token gets no grace period.
TOKEN_LEEWAY: Final = 10.0

# --- pcapctl before the capture, seconds ----------------------------------------

#: for one exchange with a server: from the look-up of its name to the last byte of its
#: answer, however slowly it arrives.  A busy Cloud Controller takes some seconds.
EXCHANGE_TIMEOUT: Final = 30.0
#: of these for each step of a connection: name look-up, TCP to one address, TLS.
CONNECT_TIMEOUT: Final = 10.0
#: seconds without a byte after which pcapctl takes an answer with packets for cut, and asks for the rest.
FETCH_SILENCE: Final = 60.0
#: bytes of such an answer that pcapctl reads before it writes them.
FETCH_GATHERED: Final = 256 * KIB
#: attempts without a byte in between after which pcapctl gives up a fetch, and the longest pause between two.
FETCH_ATTEMPTS: Final = 10
FETCH_PAUSE_MAX: Final = 15.0
#: seconds between looks at whether a recording that is being followed has more packets.
TAIL_INTERVAL: Final = 1.0
#: packets with the time of the last one that are remembered, to fetch each packet once.
TIES_MAX: Final = 4096
#: for the api to open a first source.  More than all its own timeouts in sequence, so that
#: the api reports what was too slow.
_FIRST_AGENT: Final = AGENT_CONNECT_TIMEOUT + 2 * HANDSHAKE_TIMEOUT + GATHER_TIME + OPEN_TIMEOUT
API_START_TIMEOUT: Final = AUTHORITY_TIMEOUT + _FIRST_AGENT + DRAIN_LINGER
#: seconds to wait, at an early end, for Wireshark's window to open the toolbar's pipe, or it would hang.
TOOLBAR_TIMEOUT: Final = 30.0

# --- following an app ---------------------------------------------------------

#: seconds between checks of the places of an app's instances.
FOLLOW_INTERVAL: Final = 10.0
#: share of the interval, up or down, so that captures do not poll at the same time.
FOLLOW_JITTER: Final = 0.2
#: maximum seconds between checks, while Cloud Controller is not available.
FOLLOW_INTERVAL_MAX: Final = 80.0
#: attempts to capture one container; for a recording `REDIALS_MAX`, with longer and longer pauses.
FOLLOW_ATTEMPTS: Final = 5
#: seconds between checks, with the api's own client, whether a user still has the role that a capture needs.
RECHECK_INTERVAL: Final = 300.0
#: seconds until the next check if there was no answer, and without an answer until the capture ends.
RECHECK_RETRY: Final = 60.0
RECHECK_PATIENCE: Final = 3600.0
#: seconds before its end at which a token of the api's own client is renewed, if it lasts twice as long.
CLIENT_TOKEN_MARGIN: Final = 60.0
#: seconds after a failure in which UAA is not asked again for such a token.
CLIENT_TOKEN_PAUSE: Final = 10.0
#: bytes of the file with the client's secret.
SECRET_MAX: Final = 4 * KIB

# --- daemon ------------------------------------------------------------------

#: connections that an agent or api accepts at once.
CONNECTIONS_MAX: Final = 1024
#: of these, connections that have sent data and are not authenticated.  The worst, which does
#: not read its answers, takes some 60 KiB with its TLS; a silent one less than 2.
STRANGERS_MAX: Final = 384
#: connections that wait in the kernel to be accepted; net.core.somaxconn may be lower.
ACCEPT_QUEUE: Final = 4096
#: default number of captures at the same time on one agent.
AGENT_CAPTURES: Final = 16
#: processes that serve one port of an api.
WORKERS_MAX: Final = 64
#: seconds until a worker that has ended is started again; each time twice as long, until one has
#: run for `WORKER_STEADY`.
WORKER_RESTART_MIN: Final = 1.0
WORKER_RESTART_MAX: Final = 30.0
WORKER_STEADY: Final = 60.0
#: seconds after an api's drain_timeout in which its workers must have ended; the last two are a reserve.
WORKERS_LINGER: Final = DRAIN_LINGER + 2.0
#: bytes of the metrics of one worker; with all metrics they have some 40 KiB.
METRICS_MAX: Final = 1 * MIB
#: seconds in which a worker must answer with its metrics; Prometheus waits for 10.
METRICS_TIMEOUT: Final = 5.0
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
#: agents that a configuration can list to be probed; more is surely a typing error.
PROBED_AGENTS_MAX: Final = 5000
#: characters kept of each text that a probed agent sends.
PROBED_TEXT_MAX: Final = 128
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
#: seconds between measurements of how late the reactor runs its timers, if metrics are served.
LAG_INTERVAL: Final = 1.0
#: seconds between looks at what an ordered merge may release.
RELEASE_INTERVAL: Final = 0.05
#: bytes, and seconds, after which a recording begins a new segment: the most that a killed api loses.
SEGMENT_BYTES: Final = 8 * MIB
SEGMENT_SECONDS: Final = 5.0
#: seconds between looks at what a recording may write.
RECORDING_INTERVAL: Final = 0.1
#: seconds between notes up to when a recording without packets is complete.
QUIET_INTERVAL: Final = 30.0
#: seconds before the first attempt to dial a recording's lost agent again; each takes twice as long.
REDIAL_MIN: Final = 1.0
REDIAL_MAX: Final = 60.0
#: seconds after which a lost agent of a recording is dialled no longer.
REDIAL_PATIENCE: Final = 3600.0
#: times that a lost agent is dialled again with success: each adds interfaces to the recording.
REDIALS_MAX: Final = 100
#: seconds between two attempts to store a segment, and for which they are repeated.
STORE_RETRY: Final = 2.0
STORE_PATIENCE: Final = 600.0
#: seconds for which a database may be silent.
STATE_TIMEOUT: Final = 5.0
#: seconds after which PostgreSQL ends a statement, such as one that waits for the lock.
STATE_STATEMENT_TIMEOUT: Final = 4.0
#: seconds after which PostgreSQL undoes a transaction whose process does not go on, and frees the lock.
STATE_IDLE_TIMEOUT: Final = 2.0
#: seconds after which what a process holds counts no longer, unless it renews its lease meanwhile.
LEASE: Final = 15.0
#: seconds between two renewals of a lease.
LEASE_INTERVAL: Final = 4.0
#: seconds after which a process that has not renewed its lease is forgotten.
HOLDER_FORGOTTEN: Final = 86400.0
#: seconds between looks for recordings and objects that may be deleted.
SWEEP_INTERVAL: Final = 60.0
#: seconds after which an object that the index does not know is deleted: it may be too new.
ORPHAN_AGE: Final = 3600.0
#: objects that are listed or deleted at once.
OBJECTS_PAGE: Final = 1000
#: seconds for which an api that ends waits for operations on its store.
STORE_LEAVE_TIMEOUT: Final = 2.0
#: bytes read from the store and written to a client at once; further such pieces that are read meanwhile.
FETCH_PIECE: Final = 1 * MIB
FETCH_AHEAD: Final = 2
#: files of recordings that are sent at the same time: each may hold two segments.
FETCHES_MAX: Final = 16
#: bytes of the body of a request about recordings.
BODY_MAX: Final = 64 * KIB
#: seconds of a clip before and after its event, at most.
CLIP_MAX: Final = 3600.0
#: seconds of a clip before and after its event, unless its user asks for others.
CLIP_BEFORE: Final = 120.0
CLIP_AFTER: Final = 30.0
#: clips of one recording; those that nobody asked for by command; and those that are not finished yet.
CLIPS_MAX: Final = 100
CLIPS_AUTOMATIC_MAX: Final = 80
CLIPS_OPEN_MAX: Final = 10
#: seconds between two clips of the same cause: an instance, the filter, or the hook.
CLIP_INTERVAL: Final = 60.0
#: seconds after the end of a clip for which its last packets are awaited.
CLIP_PATIENCE: Final = 60.0
#: bytes of each packet that triggers a clip; it is not stored.
TRIGGER_SNAPLEN: Final = 64
#: bytes of the parts in which a clip is written.
CLIP_PIECE: Final = 8 * MIB
#: bytes of a clip that is explained; seconds, and bytes of memory, for it.
EXPLAIN_CLIP_MAX: Final = 256 * MIB
EXPLAIN_CLIP_TIME: Final = 120.0
EXPLAIN_CLIP_MEMORY: Final = 1024 * MIB
#: bytes of the findings that are stored with a clip.
CLIP_FINDINGS_MAX: Final = 256 * KIB
#: seconds for which a recording waits for a slow client that captures besides; then the client's packets
#: are dropped.
RESUMABLE_PATIENCE: Final = 2.0
#: seconds between blocks of statistics in a file.
STATISTICS_INTERVAL: Final = 5.0
#: seconds between probes of known agents on average: 1,000 in a minute, and at most some 170 at once.
PROBE_SPACING: Final = 0.06
#: of the time until the next probe, up or down, so that apis do not ask in step.
PROBE_JITTER: Final = 0.5
#: seconds in which all known agents are asked for the first time, if PROBE_SPACING allows it.
PROBE_FIRST_ROUND: Final = 60.0
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
