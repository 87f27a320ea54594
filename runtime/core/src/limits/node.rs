//! Caps of a node that are not a function's. Those that an operator may change are defaults of `mayfly.toml`.

use super::page::{written_count, written_duration, written_size};
use super::{Duration, GIB, KIB, MIB};

caps! {
    /// Until the whole head of a request is there; a slow client costs a descriptor, no slot.
    HEADER_TIMEOUT: Duration = Duration::from_secs(10), written_duration;
    /// Between two pieces of a request's body.
    BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30), written_duration;
    /// Between two pieces of a response that the client takes.
    WRITE_IDLE_TIMEOUT: Duration = Duration::from_secs(30), written_duration;
    /// Of a connection without a request; longer than common proxies' 60 s, so that they close first.
    KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75), written_duration;
    /// Headers of a request; beyond it 431.
    REQUEST_HEADERS: usize = 100, written_count;
    /// Bytes of a request's head.
    REQUEST_HEAD_BYTES: usize = 64 << 10, written_size;
    /// Bytes of a head that are not counted.
    HEAD_FREE_BYTES: usize = 16 << 10, written_size;
    /// Bytes of all heads beyond that, and of wide buffers, at twice their length; a client whose head finds no room is cut off.
    HEADS_BYTES: usize = 64 << 20, written_size;
    /// Bytes that an HTTP/1 connection buffers: a whole head.
    HTTP1_BUFFER_BYTES: usize = 72 << 10, written_size;
    /// Bytes that it reads at once; its buffer is twice as large, and stays while the client sends nothing.
    HTTP1_PIECE_BYTES: usize = 8 << 10, written_size;
    /// Bytes after which it reads whole buffers, if they have room among the long heads.
    HTTP1_WIDE_AFTER: usize = 128 << 10, written_size;
    /// Bytes of a request's path and query.
    URI_BYTES: usize = 8 << 10, written_size;
    /// Bytes of a request's method; the longest registered one has 17.
    METHOD_BYTES: usize = 32, written_size;
    /// Streams of one HTTP/2 connection.
    H2_STREAMS: u32 = 100, written_count;
    /// Heads of one HTTP/2 connection that are decoded before the first of them is served.
    H2_HEADS_AT_ONCE: usize = 4, written_count;
    /// HTTP/2 connections of a worker of which such heads are decoded at once.
    H2_TURNS: usize = 16, written_count;
    /// Flow-control window of one HTTP/2 stream, in bytes.
    H2_STREAM_WINDOW: u32 = 64 << 10, written_size;
    /// Flow-control window of one HTTP/2 connection, in bytes.
    H2_CONNECTION_WINDOW: u32 = 1 << 20, written_size;
    /// Bytes that an HTTP/2 connection may buffer for one slow stream.
    H2_SEND_BUFFER: usize = 64 << 10, written_size;
    /// Connections at once; each costs a descriptor and up to 64 KiB.
    CONNECTIONS: usize = 10_000, written_count;
    /// Bytes of the memory budget for each connection, however many `gateway.connections` allows: about twice what one takes
    /// at most.
    CONNECTION_BYTES: u64 = 128 << 10, written_size;
    /// Until TLS is agreed on, from the connection's first byte; common clients give up after 5 to 10 s.
    TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5), written_duration;
    /// Handshakes of a worker that are computed before others have their turn: each takes 0.1 to 1 ms.
    TLS_HANDSHAKES_AT_ONCE: usize = 2, written_count;
    /// Bytes that a TLS connection holds encrypted for a client that does not take them: two records.
    TLS_BUFFER_BYTES: usize = 32 << 10, written_size;
    /// How often files of certificates and keys are looked at for changes.
    TLS_RELOAD: Duration = Duration::from_secs(5), written_duration;
    /// Bytes of a file of certificates or of a key; the web's 140 authorities are 220 KiB.
    TLS_FILE_BYTES: u64 = 1 << 20, written_size;
    /// Entries in `gateway.tls.sni`: their files are looked at each time.
    TLS_NAMES: usize = 1_000, written_count;
    /// Bytes of a client certificate's subject in its header; of a longer one there is none.
    TLS_SUBJECT_BYTES: usize = 4 << 10, written_size;
    /// Addresses and networks in `gateway.trusted-proxies`: each new connection's is compared with all of them.
    TRUSTED_PROXIES: usize = 1_000, written_count;
    /// Proxies that a request may have passed, by `Forwarded` or `X-Forwarded-For`; one with more is 400.
    FORWARDED_HOPS: usize = 64, written_count;
    /// Descriptors of a node without connections, functions and workers: databases, listeners, event queues.
    OWN_DESCRIPTORS: usize = 32, written_count;
    /// Descriptors of a worker of the gateway: its listener, one for TLS beside it, and its event queue.
    WORKER_DESCRIPTORS: usize = 5, written_count;
    /// Descriptors left for the admin API, publishes and the database; a quarter of all, if that is less.
    RESERVED_DESCRIPTORS: usize = 384, written_count;
    /// Time a request waits for a free slot before 503.
    QUEUE_TIMEOUT: Duration = Duration::from_secs(1), written_duration;
    /// Waiting requests per slot.
    QUEUE_PER_SLOT: usize = 2, written_count;
    /// A function with more than one part in so many of that queue may only come to its first half.
    QUEUE_FEW_PARTS: usize = 8, written_count;
    /// Requests per slot whose JSON, or whose body for a command that came without a length, may be received at once; one
    /// function gets half of what is free at most.
    RECEIVING_PER_SLOT: usize = 2, written_count;
    /// Bytes a second that a client must send of its body on average, while it is waited for.
    BODY_RATE: u64 = KIB, written_size;
    /// Until that is asked of a body.
    BODY_RATE_GRACE: Duration = Duration::from_secs(10), written_duration;
    /// Bytes of a body that are read for nothing when its request was answered before its end; and as many as `LINGER_BYTES`.
    DISCARD_BYTES: u64 = 64 * MIB, written_size;
    /// Between two pieces of a body that is read for nothing.
    DISCARD_IDLE: Duration = Duration::from_secs(5), written_duration;
    /// Until a body that is read for nothing must be there; it must come at `BODY_RATE` as any other.
    DISCARD_TIMEOUT: Duration = Duration::from_secs(30), written_duration;
    /// HTTP/2 answers whose end waits for the rest of a body at once; others end, and their streams are reset.
    DISCARD_STREAMS: usize = 1024, written_count;
    /// How long such an end waits for the next piece of the body.
    DISCARD_STREAM_IDLE: Duration = Duration::from_secs(1), written_duration;
    /// Bytes that are read of a connection behind its last answer, so that no reset destroys that.
    LINGER_BYTES: usize = 16 << 20, written_size;
    /// How long its client is given to close its side then.
    LINGER_TIMEOUT: Duration = Duration::from_secs(5), written_duration;
    /// Response bytes between a guest and a client; when full the guest waits.
    RESPONSE_BUFFER_BYTES: usize = 256 << 10, written_size;
    /// Bytes that the kernel keeps of a response beyond those that are on their way to the client.
    UNSENT_BYTES: u32 = 128 << 10, written_size;
    /// Bytes of answers that one connection's client need not have taken before they are counted.
    ANSWERS_FREE_BYTES: usize = 32 << 10, written_size;
    /// Bytes of all answers beyond that; one that finds no room is a 503 without a body.
    ANSWERS_BYTES: usize = 64 << 20, written_size;
    /// Bytes that an answer counts beside its own.
    ANSWER_COST: usize = 8 << 10, written_size;
    /// Bytes of linear memory from which on an instance is watched, and reset off the workers; smaller ones are counted whole.
    LARGE_MEMORY_BYTES: u64 = 2 * MIB, written_size;
    /// Bytes that an instance is counted at beside its linear memory: stack, table, buffers.
    INSTANCE_BYTES: u64 = MIB, written_size;
    /// How long everybody is refused for want of memory before the node says that it is not ready.
    REFUSING_UNREADY: Duration = Duration::from_secs(1), written_duration;
    /// How long the reset of a large instance waits for its response to be taken; a slow client's goes out long after.
    RESPONSE_FIRST: Duration = Duration::from_millis(2), written_duration;
    /// Bytes that a piece of a response costs at least, however short: one of a byte takes about as much to keep.
    RESPONSE_PIECE_BYTES: usize = 64, written_size;
    /// Bytes that one host call takes from or gives to a guest at most; a larger request is done in parts.
    HOSTCALL_BYTES: usize = 64 << 10, written_size;
    /// Bytes that one piece of a guest's output is handed on in: 4,096 empty lines of log are about a millisecond.
    STDIO_PIECE_BYTES: u32 = 4 << 10, written_size;
    /// Buffers that a call of `fd_read` or `fd_write` looks at; POSIX's `IOV_MAX` on Linux.
    IOVECS: u32 = 1_024, written_count;
    /// Bytes of a path that a guest opens; Linux's `PATH_MAX`.
    PATH_BYTES: usize = 4 << 10, written_size;
    /// Bytes of CGI head: as the reactor ABI's.
    CGI_HEAD_BYTES: usize = 96 << 10, written_size;
    /// Bytes of what a command printed in place of a head that go into its log.
    CGI_PRINTED_BYTES: usize = 200, written_size;
    /// Bytes of bodies that came without a length and are held for commands; beyond it 503, and beyond half of what is free
    /// for one function, three times of it for one address.
    BODIES_BYTES: usize = 128 << 20, written_size;
    /// Bytes of one log line; what is over is cut.
    LOG_LINE_BYTES: usize = 8 << 10, written_size;
    /// Bytes of a request's path in its log line; what is over is cut, and the query is never there.
    LOG_PATH_BYTES: usize = 256, written_size;
    /// Bytes of the reason for which an inference was refused in its log line; what is over is cut.
    LOG_REASON_BYTES: usize = 512, written_size;
    /// Bytes that a log line costs of its function's limit beside its own: an empty one is as long once written down.
    LOG_LINE_COST: u64 = 64, written_size;
    /// Log lines kept in memory per function for `mayfly logs`.
    LOG_LINES_KEPT: usize = 1_000, written_count;
    /// Log records under way from workers to the log thread; when full, lines are dropped and counted.
    LOG_QUEUE: usize = 4_096, written_count;
    /// A function may hold one part in so many of what is free of that queue: a flood leaves room to all others.
    LOG_QUEUE_PARTS: usize = 2, written_count;
    /// Bytes a second that a function may log, as they are written; and as many of records of its requests that failed.
    LOG_RATE_BYTES: u64 = MIB, written_size;
    /// Bytes that a function may log at once: twice what the limit `log` can give one invocation.
    LOG_BURST_BYTES: u64 = 2 * MIB, written_size;
    /// Between two lines that say how many records a function lost.
    LOG_DROPS_SAID: Duration = Duration::from_secs(5), written_duration;
    /// Bytes of log lines kept in memory per function, however many lines they are.
    LOG_RING_BYTES: usize = 256 << 10, written_size;
    /// Bytes of log lines kept in memory for all functions; the longest silent function's go first.
    LOG_RINGS_BYTES: usize = 64 << 20, written_size;
    /// `mayfly logs -f` at once.
    LOG_FOLLOWERS: usize = 64, written_count;
    /// Lines that a slow follower may be behind before it is told of a gap.
    LOG_FOLLOWER_QUEUE: usize = 256, written_count;
    /// Bytes of an uploaded module, assets included: a VGG-19 of 32 bits and the runner have 557 MiB.
    PACKAGE_BYTES: u64 = 640 * MIB, written_size;
    /// A module has at most one part in so many of `engine.memory-budget`: its deploy holds it some four times.
    PACKAGE_MEMORY_PARTS: u64 = 8, written_count;
    /// Bytes that a module may have on every node, however little memory that has.
    PACKAGE_SMALL_BYTES: u64 = 128 * MIB, written_size;
    /// Bytes of an upload that are kept in memory before they go to the disk.
    UPLOAD_PIECE_BYTES: usize = 1 << 20, written_size;
    /// Functions on one node.
    FUNCTIONS: usize = 10_000, written_count;
    /// Publishes at once; each is a child process that may take a core and `CHILD_DATA_BYTES`.
    PUBLISHES: usize = 2, written_count;
    /// Publishes that wait for their turn.
    PUBLISH_QUEUE: usize = 32, written_count;
    /// Wall time of a module's start function when publish tries the module; it takes one of the turns of `PUBLISHES`.
    START_TIMEOUT: Duration = Duration::from_secs(2), written_duration;
    /// Code and images that a start verifies before the node is ready, the smallest first; the rest is loaded when it is
    /// asked for, or when there is time. Hashing takes about a millisecond for each.
    LOADED_AT_START: u64 = 16 << 20, written_size;
    /// A request waits so long for a function that is being loaded; then it is told 503.
    LOAD_WAIT: Duration = Duration::from_secs(10), written_duration;
    /// Until a function whose code could not be rebuilt is tried again; doubled each time.
    REBUILD_RETRY: Duration = Duration::from_secs(10), written_duration;
    /// Between two such tries at most: a full disk or a busy machine is noticed to be well again.
    REBUILD_RETRY_MOST: Duration = Duration::from_secs(300), written_duration;
    /// CPU time of one child process of publish.
    CHILD_CPU: Duration = Duration::from_secs(120), written_duration;
    /// Wall time of one child process of publish.
    CHILD_WALL: Duration = Duration::from_secs(600), written_duration;
    /// Data segment of one child process of publish: a guest's memory, and its image up to three times (`RLIMIT_DATA`:
    /// `RLIMIT_AS` would refuse the reservation of the memory).
    CHILD_DATA_BYTES: u64 = 6 * GIB, written_size;
    /// That data segment is at most one part in so many of the machine's or control group's memory: two run at once.
    CHILD_MEMORY_PARTS: u64 = 2, written_count;
    /// Descriptors of one child process of publish: it holds six, for job, result, last words and an image of memory.
    CHILD_DESCRIPTORS: u64 = 8, written_count;
    /// Bytes that a child process of publish may hand back.
    CHILD_OUTPUT_BYTES: u64 = GIB, written_size;
    /// Bytes kept of what a child process of publish writes to stderr; the last line goes into the error.
    CHILD_STDERR_BYTES: usize = 16 << 10, written_size;
    /// Bytes kept of what a function's init writes to its log.
    INIT_LOG_BYTES: usize = 64 << 10, written_size;
    /// Wall time that a child process of publish may take beside a guest's init: loading, copying, comparing.
    CHILD_GRACE: Duration = Duration::from_secs(30), written_duration;
    /// Sections of a module: custom ones have no limit of their own in the format, and each is looked at.
    MODULE_SECTIONS: usize = 10_000, written_count;
    /// Functions of a module, wasmtime's own limit; CPython has 13,000.
    MODULE_FUNCTIONS: usize = 1_000_000, written_count;
    /// Types of a module; the validator keeps each on the heap, and compilers make hundreds.
    MODULE_TYPES: usize = 10_000, written_count;
    /// Parameters and results of all types together.
    MODULE_TYPE_VALUES: usize = 200_000, written_count;
    /// Imports, exports, globals and element segments of a module, of each.
    MODULE_ITEMS: usize = 10_000, written_count;
    /// Data segments of a module: a snapshot has up to 10,000.
    MODULE_DATA: usize = 100_000, written_count;
    /// Bytes in the names of imports and exports together.
    MODULE_NAME_BYTES: usize = 1 << 20, written_size;
    /// Tables of a module.
    TABLES: usize = 1, written_count;
    /// Steps that making one instance may take for globals, tables and segments that are no constants: 1 to 3 ms that
    /// nothing interrupts.
    STARTUP_STEPS: u64 = 100_000, written_count;
    /// Versions of a function that are remembered, beside those that a recent deployment or a tag names.
    HISTORY: usize = 50, written_count;
    /// Deployments of a function that are remembered.
    DEPLOYMENTS: usize = 50, written_count;
    /// The last deployments of a function whose versions' code is never thrown away for want of room: going back to one of
    /// them compiles nothing.
    DEPLOYMENTS_KEPT_READY: usize = 3, written_count;
    /// Versions that share a function's requests.
    SPLITS: usize = 4, written_count;
    /// Tags of a function; each keeps a version's code in memory.
    TAGS: usize = 16, written_count;
    /// Bytes of what a deployment's maker says of it.
    MESSAGE_BYTES: usize = 512, written_size;
    /// Bytes of who made a deployment.
    BY_BYTES: usize = 128, written_size;
    /// Bytes of the name of a header or cookie by which requests are shared out.
    STICKY_NAME_BYTES: usize = 64, written_size;
    /// Steps of a rollout.
    ROLLOUT_STEPS: usize = 20, written_count;
    /// Between two steps of a rollout at the least.
    ROLLOUT_PAUSE_LEAST: Duration = Duration::from_secs(1), written_duration;
    /// Between two steps of a rollout at most.
    ROLLOUT_PAUSE_MOST: Duration = Duration::from_secs(7 * 24 * 3600), written_duration;
    /// How often a rollout is looked at.
    ROLLOUT_LOOK: Duration = Duration::from_millis(500), written_duration;
    /// Requests of a new version before its failures are compared.
    GUARD_REQUESTS_ERRORS: u64 = 20, written_count;
    /// Requests of a new version, and of the one before, before their times are compared.
    GUARD_REQUESTS: u64 = 200, written_count;
    /// Bytes of compiled functions kept for one body of code, so that its next model compiles in seconds.
    CODE_CACHE_BYTES: usize = 256 << 20, written_size;
    /// Bodies of code that are remembered to be valid, so that the next model of a runner is not looked at function by
    /// function: of each a digest is kept.
    KNOWN_CODE: usize = 64, written_count;
    /// Bytes of the artifact store before the oldest unused artifact goes.
    STORE_BYTES: u64 = 20 * GIB, written_size;
    /// Bytes that a publish leaves free on the state directory's disk, so that the database can always commit.
    STORE_RESERVE_BYTES: u64 = 64 * MIB, written_size;
    /// Environment variables of a function.
    ENV_VARS: usize = 64, written_count;
    /// Bytes of one environment variable, name and value.
    ENV_VAR_BYTES: usize = 4 << 10, written_size;
    /// Secrets of a node.
    SECRETS: usize = 1_000, written_count;
    /// Bytes of one secret.
    SECRET_BYTES: usize = 64 << 10, written_size;
    /// Bytes from which on a secret is taken out of its functions' log lines: shorter ones are found everywhere.
    SECRET_HIDDEN_BYTES: usize = 8, written_size;
    /// A longer line of a secret is looked for in pieces of so many bytes: the log cuts lines.
    SECRET_PIECE_BYTES: usize = 1 << 10, written_size;
    /// Such lines and pieces of all secrets of a function.
    SECRET_PIECES: usize = 8_192, written_count;
    /// How often the directory of secrets is looked at.
    SECRETS_LOOK: Duration = Duration::from_secs(2), written_duration;
    /// Arguments of a function, beside its name.
    ARGS: usize = 64, written_count;
    /// Bytes of all arguments of a function.
    ARGS_BYTES: usize = 32 << 10, written_size;
    /// Routes of a node: those of its configuration and of all functions.
    ROUTES: usize = 1_000, written_count;
    /// Native stack of a guest, in bytes.
    WASM_STACK_BYTES: usize = 512 << 10, written_size;
    /// Fiber stack that a guest and the host functions it calls share, in bytes.
    FIBER_STACK_BYTES: usize = 2 << 20, written_size;
    /// Instructions on the longest path of a guest from one look at the clock to the next: with each a store to a fresh
    /// page they take half a millisecond.
    UNCHECKED_STEPS: u32 = 1_000, written_count;
    /// What a function may do after a call that may have been thousands deep before it looks at the clock or returns; a
    /// memory access counts 96 of it, which may be the first to two pages. The native stack has room for some 16,000 frames that each do as much.
    UNCHECKED_TAIL: u32 = 768, written_count;
    /// Bytes of memory that one instruction moves; a longer `memory.copy`, `fill` or `init` is done in such pieces.
    BULK_PIECE_BYTES: u32 = 1 << 20, written_size;
    /// How often guests that run are asked to let others run.
    TICK: Duration = Duration::from_millis(10), written_duration;
    /// How often they are asked while a function is profiled: what one sample stands for. To wake a thread for it
    /// took 36 us on a busy virtual machine.
    PROFILE_TICK: Duration = Duration::from_millis(2), written_duration;
    /// How long a profile takes at the most.
    PROFILE_MOST: Duration = Duration::from_secs(60), written_duration;
    /// Profiles of a node at once, each of another function.
    PROFILES: usize = 4, written_count;
    /// Different stacks of a profile; further ones are counted together.
    PROFILE_STACKS: usize = 10_000, written_count;
    /// Innermost frames of a stack that a profile has; the engine gives no more.
    PROFILE_FRAMES: usize = 20, written_count;
    /// Bytes of a function's name in a profile; what is over is cut.
    PROFILE_NAME_BYTES: usize = 256, written_size;
    /// How often each of the gateway's workers says that it gets round to its work.
    WORKER_HEARTBEAT: Duration = Duration::from_millis(250), written_duration;
    /// Without that for so long, a node is not ready: whoever balances load sends requests elsewhere.
    WORKER_SILENCE: Duration = Duration::from_secs(2), written_duration;
    /// Handles that a guest may hold in the host (wasmtime's default is a million).
    GUEST_HANDLES: usize = 1_024, written_count;
    /// Bytes of one `random_get` (wasmtime's default is 64 MiB).
    RANDOM_BYTES: u64 = 64 * KIB, written_size;
    /// Granularity of the guest's monotonic clock: a finer one is an oracle for timing attacks.
    CLOCK_GRANULARITY: Duration = Duration::from_millis(1), written_duration;
    /// Bytes of one request body to the admin API that is read as JSON.
    ADMIN_JSON_BYTES: usize = 16 << 10, written_size;
    /// Bytes of one request body to the admin API that is not a module.
    ADMIN_BODY_BYTES: usize = 1 << 20, written_size;
    /// Shapes of a model that plans were made ready for because requests had them; the one that was not asked for the
    /// longest is forgotten.
    LEARNED_SHAPES: usize = 8, written_count;
    /// Requests of a shape after which a plan is made ready for it, if the model answers it by one that is built anew each
    /// time.
    LEARN_AFTER: u32 = 2, written_count;
    /// The same, if it answers by a plan for all shapes.
    LEARN_AFTER_SLOWER: u32 = 64, written_count;
    /// Shapes of a model that are counted.
    SHAPES_COUNTED: usize = 64, written_count;
    /// Bytes of the stock runner's configuration that are read to add a shape.
    RUNNER_CONFIG_BYTES: usize = 64 << 10, written_size;
    /// Shapes in turn that a model fails to learn, after each of which its pause is twice as long, until it learns no more.
    LEARN_FAILURES: u32 = 4, written_count;
    /// Between two shapes that one model learns: each is a publish, which anybody may ask for.
    LEARN_PAUSE: Duration = Duration::from_secs(30), written_duration;
    /// Models that are listed at once, in the repository index and in the statistics of all.
    MODELS_LISTED: usize = 1_000, written_count;
    /// Bytes of JSON of one inference request; larger tensors follow it in binary.
    INFERENCE_JSON_BYTES: usize = 16 << 20, written_size;
    /// Longest description of a model, in bytes: thousands of tensors' names and shapes.
    INFERENCE_METADATA_BYTES: usize = 256 << 10, written_size;
    /// Bytes of JSON and tensors of all inference requests that are being read or answered; beyond it 503, and beyond
    /// half of what is free for one function, three times of it for one address.
    INFERENCE_BUFFERS_BYTES: usize = 256 << 20, written_size;
    /// Bytes a second in which a client must take an inference's answer, at the least.
    INFERENCE_ANSWER_RATE: u64 = 256 * KIB, written_size;
    /// Until that is asked of an answer.
    INFERENCE_ANSWER_GRACE: Duration = Duration::from_secs(10), written_duration;
    /// Until a module is uploaded whole: 640 MiB at 9 Mbit/s.
    ADMIN_UPLOAD_TIMEOUT: Duration = Duration::from_secs(600), written_duration;
    /// Connections to the admin listener; two thirds of the reserved descriptors, if that is less.
    ADMIN_CONNECTIONS: usize = 256, written_count;
    /// Beyond the longest wall limit, before a drain gives up.
    DRAIN_GRACE: Duration = Duration::from_secs(5), written_duration;
}
