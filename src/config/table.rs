//! The directives, one row each: everything about a directive is in its row and nowhere else.
//!
//! A row reads: names, field, type and default; then the rule that its type takes (bounds, words,
//! a check), when it may change, what applying it means, and the sentence for the example file.
//! Names, defaults, bounds and words are Redis 7.2's, with Valkey's later additions beside them;
//! the field is the name with underscores. `.later()` marks a row whose feature does not exist
//! yet: whoever builds the feature takes the mark away. Rows of our own go to the last section.

use super::check;
use super::choice::{
    AppendFsync, DisklessLoad, EndpointType, EvictionPolicy, LogFormat, LogLevel, LogTimestamp,
    ONE_WORD, OomScoreAdj, PropagationError, ProtectedAction, PubsubDefault, SOME_WORDS,
    SanitizeDump, ShutdownOptions, Supervised, SyslogFacility, TlsAuthClients, TlsUser,
};
use super::directive::{Apply, Directive, FIXED, LIVE, directives};
use super::events::EventClasses;
use super::special::{
    BindAddresses, OWN_FORM, OomScores, OutputLimits, Percentiles, PrimaryAddress, SavePoints,
    ThreadCount, WorkingDirectory,
};
use super::value::{
    ANY_TEXT, Budget, INT_MAX, INT_MIN, LONG_MAX, SIZE_OR_SHARE, Setting, Text, UINT_MAX,
    ULONG_MAX, YES_NO, checked, int, memory, never_yes, octal,
};

directives! {

section "Network" {
    "bind" => bind: BindAddresses = BindAddresses::default(); OWN_FORM, LIVE, Listen,
        "Local addresses to listen on; one that starts with a dash may be missing.";
    "bind-source-addr" => bind_source_addr: Option<Text> = None; ANY_TEXT, LIVE, Nothing,
        "Local address that outgoing connections start from.";
    "protected-mode" => protected_mode: bool = true; YES_NO, LIVE, Nothing,
        "Turns away clients from other machines while the default user has no password.";
    "port" => port: u16 = 6379; int(0, 65535), LIVE, Listen,
        "TCP port for clients; 0 opens none.";
    "metrics-port" => metrics_port: u16 = 0; int(0, 65535), LIVE, Listen,
        "TCP port of a Prometheus endpoint, /metrics, on the addresses of bind; 0 opens none.";
    "metrics-tls" => metrics_tls: bool = false; YES_NO, LIVE, Tls,
        "Serves the Prometheus endpoint by TLS, with the certificates of tls-port.";
    "tcp-backlog" => tcp_backlog: i32 = 511; int(0, INT_MAX), FIXED, Nothing,
        "Connections the kernel may queue before they are accepted.";
    "unixsocket" => unixsocket: Option<Text> = None; ANY_TEXT, FIXED, Nothing,
        "Path of a Unix socket to listen on as well.";
    "unixsocketgroup" => unixsocketgroup: Option<Text> = None; ANY_TEXT, FIXED.later(), Nothing,
        "Group that shall own the Unix socket.";
    "unixsocketperm" => unixsocketperm: u32 = 0; octal(0, 0o777), FIXED, Nothing,
        "Permissions of the Unix socket, in octal; 0 leaves them to the umask.";
    "timeout" => timeout: u32 = 0; int(0, INT_MAX), LIVE, Nothing,
        "Seconds after which an idle client is disconnected; 0 means never.";
    "tcp-keepalive" => tcp_keepalive: u32 = 300; int(0, INT_MAX), LIVE, Nothing,
        "Seconds between the kernel's probes of silent connections; 0 sends none.";
    "socket-mark-id" => socket_mark_id: u32 = 0; int(0, UINT_MAX), FIXED.later(), Nothing,
        "Mark put on the listening sockets for the host's packet filter; 0 puts none.";
    "max-new-connections-per-cycle" => max_new_connections_per_cycle: u32 = 10;
        int(1, 1000), LIVE, Nothing,
        "Connections accepted in one turn of the loop.";
    "max-new-tls-connections-per-cycle" => max_new_tls_connections_per_cycle: u32 = 1;
        int(1, 1000), LIVE, Nothing,
        "TLS connections accepted in one turn of the loop.";
}

section "TLS" {
    "tls-port" => tls_port: u16 = 0; int(0, 65535), LIVE, Listen,
        "TCP port for clients that speak TLS; 0 opens none.";
    "tls-cert-file" => tls_cert_file: Option<Text> = None;
        ANY_TEXT, LIVE.volatile(), Tls,
        "Certificate the server shows.";
    "tls-key-file" => tls_key_file: Option<Text> = None; ANY_TEXT, LIVE.volatile(), Tls,
        "Private key of the server's certificate.";
    "tls-key-file-pass" => tls_key_file_pass: Option<Text> = None;
        ANY_TEXT, LIVE.sensitive(), Tls,
        "Passphrase of the private key, if it has one.";
    "tls-client-cert-file" => tls_client_cert_file: Option<Text> = None;
        ANY_TEXT, LIVE.volatile(), Tls,
        "Certificate for outgoing connections, if it is not the server's.";
    "tls-client-key-file" => tls_client_key_file: Option<Text> = None;
        ANY_TEXT, LIVE.volatile(), Tls,
        "Private key of the certificate for outgoing connections.";
    "tls-client-key-file-pass" => tls_client_key_file_pass: Option<Text> = None;
        ANY_TEXT, LIVE.sensitive(), Tls,
        "Passphrase of the private key for outgoing connections.";
    "tls-dh-params-file" => tls_dh_params_file: Option<Text> = None;
        ANY_TEXT, LIVE.volatile(), Tls,
        "Diffie-Hellman parameters for old TLS libraries.";
    "tls-ca-cert-file" => tls_ca_cert_file: Option<Text> = None;
        ANY_TEXT, LIVE.volatile(), Tls,
        "File of the authorities that certificates of peers are checked against.";
    "tls-ca-cert-dir" => tls_ca_cert_dir: Option<Text> = None;
        ANY_TEXT, LIVE.volatile(), Tls,
        "Directory of the authorities that certificates of peers are checked against.";
    "tls-auth-clients" => tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes;
        ONE_WORD, LIVE, Tls,
        "Whether a client must show a certificate, may show one, or is not asked.";
    "tls-replication" => tls_replication: bool = false; YES_NO, LIVE, Tls,
        "Speaks TLS to the primary.";
    "tls-cluster" => tls_cluster: bool = false; YES_NO, LIVE, Tls,
        "Speaks TLS on the cluster bus.";
    "tls-protocols" => tls_protocols: Option<Text> = None; ANY_TEXT, LIVE, Tls,
        "TLS versions that are allowed, separated by spaces.";
    "tls-ciphers" => tls_ciphers: Option<Text> = None; ANY_TEXT, LIVE, Tls,
        "Ciphers allowed up to TLS 1.2.";
    "tls-ciphersuites" => tls_ciphersuites: Option<Text> = None; ANY_TEXT, LIVE, Tls,
        "Cipher suites allowed in TLS 1.3.";
    "tls-prefer-server-ciphers" => tls_prefer_server_ciphers: bool = false;
        YES_NO, LIVE, Tls,
        "Picks the cipher by the server's preference instead of the client's.";
    "tls-session-caching" => tls_session_caching: bool = true; YES_NO, LIVE, Tls,
        "Remembers sessions, so that clients that return connect faster.";
    "tls-session-cache-size" => tls_session_cache_size: u32 = 20480;
        int(0, INT_MAX), LIVE, Tls,
        "Sessions to remember; 0 sets no limit.";
    "tls-session-cache-timeout" => tls_session_cache_timeout: u32 = 300;
        int(0, INT_MAX), LIVE, Tls,
        "Seconds a session is remembered.";
    "tls-auto-reload-interval" => tls_auto_reload_interval: u32 = 0; int(0, INT_MAX), LIVE, Nothing,
        "Seconds between looks whether files of TLS were replaced; 0 never looks.";
    "tls-auth-clients-user" => tls_auth_clients_user: TlsUser = TlsUser::Off;
        ONE_WORD, LIVE, Nothing,
        "What of a client's certificate names the user that the client is logged in as.";
}

section "General" {
    "daemonize" => daemonize: bool = false; YES_NO, FIXED, Nothing,
        "Runs in the background.";
    "supervised" => supervised: Supervised = Supervised::No; ONE_WORD, FIXED, Nothing,
        "The service manager to tell when the server is ready.";
    "pidfile" => pidfile: Option<Text> = None; ANY_TEXT, FIXED, Nothing,
        "File the process id is written to.";
    "loglevel" => loglevel: LogLevel = LogLevel::Notice; ONE_WORD, LIVE, Log,
        "The least important messages that are still logged.";
    "logfile" => logfile: Text = Text::default(); ANY_TEXT, FIXED, Nothing,
        "File to log to; empty logs to the standard output.";
    "log-format" => log_format: LogFormat = LogFormat::Legacy; ONE_WORD, LIVE, Log,
        "Shape of a log line: the traditional one or key=value pairs.";
    "log-timestamp-format" => log_timestamp_format: LogTimestamp = LogTimestamp::Legacy;
        ONE_WORD, LIVE, Log,
        "How log lines show the time.";
    "syslog-enabled" => syslog_enabled: bool = false; YES_NO, FIXED.later(), Nothing,
        "Logs to the system's log as well.";
    "syslog-ident" => syslog_ident: Text = "redis".into(); ANY_TEXT, FIXED.later(), Nothing,
        "Name used in the system's log.";
    "syslog-facility" => syslog_facility: SyslogFacility = SyslogFacility::Local0;
        ONE_WORD, FIXED.later(), Nothing,
        "Facility used in the system's log.";
    "hide-user-data-from-log" => hide_user_data_from_log: bool = false; YES_NO, LIVE, Nothing,
        "Keeps keys and values out of logs and crash reports.";
    "crash-log-enabled" => crash_log_enabled: bool = true; YES_NO, LIVE, Log,
        "Writes a report to the log when the server crashes.";
    "crash-memcheck-enabled" => crash_memcheck_enabled: bool = true;
        YES_NO, LIVE.later(), Nothing,
        "Tests the memory after a crash.";
    "databases" => databases: u32 = 16; int(1, INT_MAX), FIXED, Nothing,
        "How many databases SELECT can reach; a cluster has one.";
    "always-show-logo" => always_show_logo: bool = false; YES_NO, FIXED, Nothing,
        "Prints the banner even if the log is not a terminal.";
    "set-proc-title" => set_proc_title: bool = true; YES_NO, FIXED.later(), Nothing,
        "Shows what the server is doing in the process list.";
    "proc-title-template" => proc_title_template: Text =
        "{title} {listen-addr} {server-mode}".into();
        checked(check::title_template), LIVE.later(), Nothing,
        "What the process list shows; variables stand in braces.";
    "locale-collate" => locale_collate: Text = Text::default(); ANY_TEXT, LIVE.later(), Nothing,
        "Locale that SORT compares strings by; empty takes the environment's.";
    "enable-protected-configs" => enable_protected_configs: ProtectedAction = ProtectedAction::No;
        ONE_WORD, FIXED, Nothing,
        "Who may change the directives that name files.";
    "enable-debug-command" => enable_debug_command: ProtectedAction = ProtectedAction::No;
        ONE_WORD, FIXED, Nothing,
        "Who may use DEBUG.";
    "enable-module-command" => enable_module_command: ProtectedAction = ProtectedAction::No;
        ONE_WORD, FIXED.later(), Nothing,
        "Who may use MODULE.";
    "ignore-warnings" => ignore_warnings: Text = Text::default(); ANY_TEXT, LIVE, Nothing,
        "Names of start-up warnings that shall not stop the server.";
    "extended-redis-compatibility" => extended_redis_compatibility: bool = false;
        YES_NO, LIVE, Nothing,
        "A switch of Valkey's; Rufous always answers as Redis does.";
    "availability-zone" => availability_zone: Text = Text::default(); ANY_TEXT, LIVE, Nothing,
        "Where this server runs, for clients that prefer a server nearby.";
    "shutdown-timeout" => shutdown_timeout: u32 = 10; int(0, INT_MAX), LIVE, Nothing,
        "Seconds a shutdown waits for replicas to catch up.";
    "shutdown-on-sigint" => shutdown_on_sigint: ShutdownOptions = ShutdownOptions::default();
        SOME_WORDS, LIVE, Nothing,
        "How SIGINT shuts the server down.";
    "shutdown-on-sigterm" => shutdown_on_sigterm: ShutdownOptions = ShutdownOptions::default();
        SOME_WORDS, LIVE, Nothing,
        "How SIGTERM shuts the server down.";
}

section "Snapshots" {
    "save" => save: SavePoints = SavePoints::default(); OWN_FORM, LIVE, Nothing,
        "Takes a snapshot once so many seconds have brought so many changes; \"\" never does.";
    "stop-writes-on-bgsave-error" => stop_writes_on_bgsave_error: bool = true;
        YES_NO, LIVE, Nothing,
        "Refuses writes while the last snapshot has failed.";
    "rdbcompression" => rdbcompression: bool = true; YES_NO, LIVE, Nothing,
        "Compresses strings in snapshots.";
    "rdbchecksum" => rdbchecksum: bool = true; YES_NO, FIXED, Nothing,
        "Ends snapshots with a checksum, and checks it when loading.";
    "sanitize-dump-payload" => sanitize_dump_payload: SanitizeDump = SanitizeDump::No;
        ONE_WORD, LIVE, Nothing,
        "When to check every element of loaded values; Rufous always checks what could harm it.";
    "dbfilename" => dbfilename: Text = "dump.rdb".into();
        checked(check::rdb_file_name), LIVE.protected(), Nothing,
        "Name of the snapshot file, within the working directory.";
    "rdb-del-sync-files" => rdb_del_sync_files: bool = false; YES_NO, LIVE, Nothing,
        "Deletes snapshot files made for replication, if nothing else is persisted.";
    "rdb-save-incremental-fsync" => rdb_save_incremental_fsync: bool = true;
        YES_NO, LIVE, Nothing,
        "Syncs snapshot files to disk while they grow.";
    "rdb-save-version" => rdb_save_version: u32 = 11; int(10, 12), LIVE, Nothing,
        "Version of snapshots and of DUMP: 10 for Redis 7.0, 11 for 7.2, 12 for 7.4.";
    "dir" => dir: WorkingDirectory = WorkingDirectory::default();
        OWN_FORM, LIVE.protected().not_loading(), Directory,
        "The working directory: where data files are kept.";
}

section "Append-only file" {
    "appendonly" => appendonly: bool = false; YES_NO, LIVE.not_loading(), AppendOnly,
        "Logs every write to disk.";
    "appendfilename" => appendfilename: Text = "appendonly.aof".into();
        checked(check::aof_file_name), FIXED, Nothing,
        "What the names of the append-only files start with.";
    "appenddirname" => appenddirname: Text = "appendonlydir".into();
        checked(check::aof_directory_name), FIXED, Nothing,
        "Directory of the append-only files, within the working directory.";
    "appendfsync" => appendfsync: AppendFsync = AppendFsync::EverySecond;
        ONE_WORD, LIVE, Nothing,
        "When writes are forced to disk: before the reply, every second, or as the kernel likes.";
    "no-appendfsync-on-rewrite" => no_appendfsync_on_rewrite: bool = false;
        YES_NO, LIVE, Nothing,
        "Does not force writes to disk while a snapshot or a rewrite is being written.";
    "auto-aof-rewrite-percentage" => auto_aof_rewrite_percentage: u32 = 100;
        int(0, INT_MAX), LIVE, Nothing,
        "Growth in percent after which the append-only file is rewritten; 0 means never.";
    "auto-aof-rewrite-min-size" => auto_aof_rewrite_min_size: u64 = 64 << 20;
        memory(0, LONG_MAX), LIVE, Nothing,
        "Size below which the append-only file is not rewritten by itself.";
    "aof-load-truncated" => aof_load_truncated: bool = true; YES_NO, LIVE, Nothing,
        "Starts even if the append-only file breaks off in the middle of a command.";
    "aof-use-rdb-preamble" => aof_use_rdb_preamble: bool = true; YES_NO, LIVE, Nothing,
        "Writes the base of the append-only file as a snapshot, not as commands.";
    "aof-timestamp-enabled" => aof_timestamp_enabled: bool = false; YES_NO, LIVE, Nothing,
        "Notes the time in the append-only file, for restoring to a point in time.";
    "aof-rewrite-incremental-fsync" => aof_rewrite_incremental_fsync: bool = true;
        YES_NO, LIVE, Nothing,
        "Syncs a rewritten append-only file to disk while it grows.";
    "aof-checksum" => aof_checksum: bool = true; YES_NO, LIVE, Nothing,
        "Writes checksums between the commands of the append-only file, and checks them.";
    "aof-disable-auto-gc" => aof_disable_auto_gc: bool = false;
        YES_NO, LIVE.hidden(), AofHistory,
        "Keeps append-only files that are no longer needed.";
}

section "Replication" {
    "replicaof" | "slaveof" => replicaof: Option<PrimaryAddress> = None;
        OWN_FORM, FIXED, Nothing,
        "Starts as a replica of that server.";
    "masterauth" | "primaryauth" => masterauth: Option<Text> = None;
        ANY_TEXT, LIVE.sensitive(), Nothing,
        "Password to log in to the primary with.";
    "masteruser" | "primaryuser" => masteruser: Option<Text> = None;
        ANY_TEXT, LIVE.sensitive(), Nothing,
        "User to log in to the primary as.";
    "replica-serve-stale-data" | "slave-serve-stale-data" => replica_serve_stale_data: bool = true;
        YES_NO, LIVE, Nothing,
        "A replica answers while it has lost its primary.";
    "replica-read-only" | "slave-read-only" => replica_read_only: bool = true;
        YES_NO, LIVE, Nothing,
        "A replica refuses writes of clients.";
    "replica-ignore-maxmemory" | "slave-ignore-maxmemory" => replica_ignore_maxmemory: bool = true;
        YES_NO, LIVE, Nothing,
        "A replica leaves evicting to its primary.";
    "replica-ignore-disk-write-errors" => replica_ignore_disk_write_errors: bool = false;
        YES_NO, LIVE, Nothing,
        "A replica goes on when it cannot write to disk.";
    "replica-lazy-flush" | "slave-lazy-flush" => replica_lazy_flush: bool = false;
        YES_NO, LIVE, Nothing,
        "A replica frees its old data in the background before a full synchronisation.";
    "replica-keep-data-from-empty-primary" => replica_keep_data_from_empty_primary: bool = false;
        YES_NO, LIVE, Nothing,
        "A replica with data takes no empty dataset of a history that is not its own.";
    "replica-priority" | "slave-priority" => replica_priority: u32 = 100;
        int(0, INT_MAX), LIVE, Nothing,
        "Sentinel promotes the replica with the lowest priority; 0 is never promoted.";
    "replica-announced" => replica_announced: bool = true; YES_NO, LIVE, Nothing,
        "Sentinel tells clients about this replica.";
    "replica-announce-ip" | "slave-announce-ip" => replica_announce_ip: Option<Text> = None;
        ANY_TEXT, LIVE, Nothing,
        "Address a replica tells its primary, if it is not the one it connects from.";
    "replica-announce-port" | "slave-announce-port" => replica_announce_port: u16 = 0;
        int(0, 65535), LIVE, Nothing,
        "Port a replica tells its primary; 0 tells the one it listens on.";
    "min-replicas-to-write" | "min-slaves-to-write" => min_replicas_to_write: u32 = 0;
        int(0, INT_MAX), LIVE, Nothing,
        "Refuses writes while fewer good replicas are connected.";
    "min-replicas-max-lag" | "min-slaves-max-lag" => min_replicas_max_lag: u32 = 10;
        int(0, INT_MAX), LIVE, Nothing,
        "Seconds a good replica may lag behind.";
    "repl-timeout" => repl_timeout: u32 = 60; int(1, INT_MAX), LIVE, Nothing,
        "Seconds of silence after which the other side of a replication link is given up.";
    "repl-ping-replica-period" | "repl-ping-slave-period" => repl_ping_replica_period: u32 = 10;
        int(1, INT_MAX), LIVE, Nothing,
        "Seconds between the primary's pings to its replicas.";
    "repl-backlog-size" => repl_backlog_size: u64 = 1 << 20;
        memory(1, LONG_MAX).clamped(16 << 10, LONG_MAX), LIVE, Nothing,
        "Bytes of history kept for replicas that reconnect.";
    "repl-backlog-ttl" => repl_backlog_ttl: u64 = 3600; int(0, LONG_MAX), LIVE, Nothing,
        "Seconds without replicas after which the history is freed; 0 keeps it.";
    "repl-disable-tcp-nodelay" => repl_disable_tcp_nodelay: bool = false;
        YES_NO, LIVE, Nothing,
        "Sends to replicas in fewer, larger packets, at the cost of delay.";
    "repl-diskless-sync" => repl_diskless_sync: bool = true;
        YES_NO, LIVE, Nothing,
        "Sends a full synchronisation straight to the replicas, without a file.";
    "repl-diskless-sync-delay" => repl_diskless_sync_delay: u32 = 5;
        int(0, INT_MAX), LIVE, Nothing,
        "Seconds to wait for more replicas before such a synchronisation starts.";
    "repl-diskless-sync-max-replicas" => repl_diskless_sync_max_replicas: u32 = 0;
        int(0, INT_MAX), LIVE, Nothing,
        "Replicas that end the waiting early; 0 always waits.";
    "repl-diskless-load" => repl_diskless_load: DisklessLoad = DisklessLoad::Disabled;
        ONE_WORD, LIVE.not_loading(), Nothing,
        "When a replica loads a full synchronisation from the link instead of a file.";
    "dual-channel-replication-enabled" => dual_channel_replication_enabled: bool = false;
        YES_NO, LIVE.later(), Nothing,
        "Sends the snapshot and the writes since over two connections.";
    "propagation-error-behavior" => propagation_error_behavior: PropagationError =
        PropagationError::Ignore; ONE_WORD, LIVE, Nothing,
        "What to do when a command of the primary or the append-only file fails.";
}

section "Access" {
    "requirepass" => requirepass: Option<Text> = None; ANY_TEXT, LIVE.sensitive(), Password,
        "Password of the default user.";
    "aclfile" => aclfile: Text = Text::default(); ANY_TEXT, FIXED, Nothing,
        "File of the users, instead of user lines in this file.";
    "acl-pubsub-default" => acl_pubsub_default: PubsubDefault = PubsubDefault::ResetChannels;
        ONE_WORD, LIVE, Nothing,
        "The channels a new user may use.";
    "acllog-max-len" => acllog_max_len: u64 = 128; int(0, LONG_MAX), LIVE, Nothing,
        "Refusals that ACL LOG remembers.";
    "auth-failure-delay" => auth_failure_delay: u32 = 0; int(0, 3_600_000), LIVE, Nothing,
        "Milliseconds between the logins of an address that has failed three times; 0 means none.";
}

section "Clients" {
    "maxclients" => maxclients: u32 = 10_000; int(1, UINT_MAX), LIVE, Clients,
        "Clients that may be connected at once.";
    "client-query-buffer-limit" => client_query_buffer_limit: usize = 1 << 30;
        memory(1 << 20, LONG_MAX), LIVE, Nothing,
        "Bytes a client may send ahead of what has been executed.";
    "proto-max-bulk-len" => proto_max_bulk_len: usize = 512 << 20;
        memory(1 << 20, LONG_MAX), LIVE, Nothing,
        "The longest argument of a request, and so the longest string.";
    "client-output-buffer-limit" => client_output_buffer_limit: OutputLimits =
        OutputLimits::default(); OWN_FORM, LIVE, Nothing,
        "Disconnects a client of that class that leaves more unread, at once or for some time.";
    "maxmemory-clients" => maxmemory_clients: Budget = Budget::Bytes(0);
        SIZE_OR_SHARE, LIVE, Nothing,
        "Memory of all clients together, in bytes or percent of maxmemory; 0 sets no limit.";
    "tracking-table-max-keys" => tracking_table_max_keys: usize = 1_000_000;
        int(0, LONG_MAX), LIVE, Nothing,
        "Keys remembered for client-side caching; 0 sets no limit.";
    "tracking-table-max-memory" => tracking_table_max_memory: usize = 1 << 30;
        memory(0, LONG_MAX), LIVE, Nothing,
        "Memory of those keys and of who has read them; 0 sets no limit.";
}

section "Memory" {
    "maxmemory" => maxmemory: u64 = 0; memory(0, ULONG_MAX), LIVE, MaxMemory,
        "Bytes of memory to stay within; 0 sets no limit.";
    "maxmemory-policy" => maxmemory_policy: EvictionPolicy = EvictionPolicy::NoEviction;
        ONE_WORD, LIVE, Nothing,
        "Which keys make room once the memory is full.";
    "maxmemory-samples" => maxmemory_samples: u32 = 5; int(1, INT_MAX), LIVE, Nothing,
        "Keys looked at to find one worth evicting; more is closer to the ideal.";
    "maxmemory-eviction-tenacity" => maxmemory_eviction_tenacity: u32 = 10;
        int(0, 100), LIVE, Nothing,
        "How long a command may spend on evicting; 100 sets no limit.";
    "snapshot-memory-limit" => snapshot_memory_limit: u64 = 0; memory(0, ULONG_MAX), LIVE, Nothing,
        "Bytes that a snapshot may keep of what is not data any more; one over it is given up.";
    "lfu-log-factor" => lfu_log_factor: u32 = 10; int(0, INT_MAX), LIVE, Nothing,
        "How many hits it takes to saturate a key's usage counter.";
    "lfu-decay-time" => lfu_decay_time: u32 = 1; int(0, INT_MAX), LIVE, Nothing,
        "Minutes after which a key's usage counter falls by one; 0 keeps it.";
    "active-expire-effort" => active_expire_effort: u32 = 1; int(1, 10), LIVE, Nothing,
        "How eagerly expired keys are collected, from 1 to 10.";
    "lazyfree-lazy-eviction" => lazyfree_lazy_eviction: bool = false;
        YES_NO, LIVE, Nothing,
        "Frees evicted keys in the background.";
    "lazyfree-lazy-expire" => lazyfree_lazy_expire: bool = false; YES_NO, LIVE, Nothing,
        "Frees expired keys in the background.";
    "lazyfree-lazy-server-del" => lazyfree_lazy_server_del: bool = false;
        YES_NO, LIVE, Nothing,
        "Frees keys that commands overwrite in the background.";
    "lazyfree-lazy-user-del" => lazyfree_lazy_user_del: bool = false;
        YES_NO, LIVE, Nothing,
        "Lets DEL free in the background, as UNLINK does.";
    "lazyfree-lazy-user-flush" => lazyfree_lazy_user_flush: bool = false;
        YES_NO, LIVE, Nothing,
        "Lets FLUSHALL and FLUSHDB free in the background when they do not say.";
    "jemalloc-bg-thread" => jemalloc_bg_thread: bool = true; YES_NO, LIVE, Nothing,
        "Lets the allocator give memory back to the system on a thread of its own.";
    "activedefrag" => activedefrag: bool = false;
        never_yes(check::NO_DEFRAGMENTATION), LIVE.later(), Nothing,
        "Moves values together to free half-empty pages.";
    "active-defrag-ignore-bytes" => active_defrag_ignore_bytes: u64 = 100 << 20;
        memory(1, LONG_MAX), LIVE.later(), Nothing,
        "Waste in bytes below which nothing is moved.";
    "active-defrag-threshold-lower" => active_defrag_threshold_lower: u32 = 10;
        int(0, 1000), LIVE.later(), Nothing,
        "Waste in percent below which nothing is moved.";
    "active-defrag-threshold-upper" => active_defrag_threshold_upper: u32 = 100;
        int(0, 1000), LIVE.later(), Nothing,
        "Waste in percent from which the greatest effort is made.";
    "active-defrag-cycle-min" => active_defrag_cycle_min: u32 = 1;
        int(1, 99), LIVE.later(), Nothing,
        "The least effort, in percent of a CPU.";
    "active-defrag-cycle-max" => active_defrag_cycle_max: u32 = 25;
        int(1, 99), LIVE.later(), Nothing,
        "The greatest effort, in percent of a CPU.";
    "active-defrag-max-scan-fields" => active_defrag_max_scan_fields: u64 = 1000;
        int(1, LONG_MAX), LIVE.later(), Nothing,
        "Elements of a value that are looked at in one go.";
}

section "Encodings" {
    "hash-max-listpack-entries" | "hash-max-ziplist-entries" => hash_max_listpack_entries: usize =
        512; int(0, LONG_MAX), LIVE, Nothing,
        "Fields a hash may have and stay compact.";
    "hash-max-listpack-value" | "hash-max-ziplist-value" => hash_max_listpack_value: usize = 64;
        memory(0, LONG_MAX), LIVE, Nothing,
        "The longest field or value of a compact hash.";
    "list-max-listpack-size" | "list-max-ziplist-size" => list_max_listpack_size: i32 = -2;
        int(INT_MIN, INT_MAX), LIVE, Nothing,
        "Elements in a node of a list; -1 to -5 mean 4, 8, 16, 32 or 64 kilobytes instead.";
    "list-compress-depth" => list_compress_depth: u32 = 0;
        int(0, INT_MAX), LIVE, Nothing,
        "Nodes at both ends of a list that are not compressed; 0 compresses none.";
    "set-max-intset-entries" => set_max_intset_entries: usize = 512;
        int(0, LONG_MAX), LIVE, Nothing,
        "Members a set of integers may have and stay a sorted array.";
    "set-max-listpack-entries" => set_max_listpack_entries: usize = 128;
        int(0, LONG_MAX), LIVE, Nothing,
        "Members a set may have and stay compact.";
    "set-max-listpack-value" => set_max_listpack_value: usize = 64;
        int(0, LONG_MAX), LIVE, Nothing,
        "The longest member of a compact set.";
    "zset-max-listpack-entries" | "zset-max-ziplist-entries" => zset_max_listpack_entries: usize =
        128; int(0, LONG_MAX), LIVE, Nothing,
        "Members a sorted set may have and stay compact.";
    "zset-max-listpack-value" | "zset-max-ziplist-value" => zset_max_listpack_value: usize = 64;
        memory(0, LONG_MAX), LIVE, Nothing,
        "The longest member of a compact sorted set.";
    "hll-sparse-max-bytes" => hll_sparse_max_bytes: usize = 3000;
        memory(0, LONG_MAX), LIVE, Nothing,
        "Size up to which a HyperLogLog stays sparse.";
    "stream-node-max-bytes" => stream_node_max_bytes: usize = 4096;
        memory(0, LONG_MAX), LIVE, Nothing,
        "Size of a node of a stream; 0 sets no limit.";
    "stream-node-max-entries" => stream_node_max_entries: u64 = 100;
        int(0, LONG_MAX), LIVE, Nothing,
        "Entries in a node of a stream; 0 sets no limit.";
    "activerehashing" => activerehashing: bool = true; YES_NO, LIVE, Nothing,
        "Spends idle time on rehashing; Rufous has nothing to rehash.";
}

section "Scripts" {
    "busy-reply-threshold" | "lua-time-limit" => busy_reply_threshold: u64 = 5000;
        int(0, LONG_MAX), LIVE, Nothing,
        "Milliseconds a script may run before other clients are told that the server is busy.";
    "script-memory-limit" => script_memory_limit: u64 = 0; memory(0, ULONG_MAX), LIVE, Nothing,
        "Bytes a script's variables may take; 0 is a quarter of maxmemory, from 256 MB to 1 GB.";
}

section "Cluster" {
    "cluster-enabled" => cluster_enabled: bool = false; YES_NO, FIXED, Nothing,
        "Runs as a node of a cluster.";
    "cluster-config-file" => cluster_config_file: Text = "nodes.conf".into();
        checked(check::cluster_file_name), FIXED, Nothing,
        "File in which the node keeps what it knows of the cluster.";
    "cluster-node-timeout" => cluster_node_timeout: u64 = 15_000;
        int(0, LONG_MAX), LIVE, Nothing,
        "Milliseconds a node may be out of reach before it counts as failing.";
    "cluster-port" => cluster_port: u16 = 0; int(0, 65535), FIXED, Nothing,
        "Port of the cluster bus; 0 is the client port plus 10000.";
    "cluster-replica-validity-factor" | "cluster-slave-validity-factor"
        => cluster_replica_validity_factor: u32 = 10; int(0, INT_MAX), LIVE, Nothing,
        "How old a replica's data may be for it to take over; 0 sets no limit.";
    "cluster-replica-no-failover" | "cluster-slave-no-failover"
        => cluster_replica_no_failover: bool = false; YES_NO, LIVE, Nothing,
        "A replica never takes over by itself.";
    "cluster-manual-failover-timeout" => cluster_manual_failover_timeout: u64 = 5000;
        int(1, INT_MAX), LIVE, Nothing,
        "Milliseconds that a failover that was asked for may take.";
    "cluster-migration-barrier" => cluster_migration_barrier: u32 = 1;
        int(0, INT_MAX), LIVE, Nothing,
        "Replicas a primary must keep before one may move to a primary that has none.";
    "cluster-allow-replica-migration" => cluster_allow_replica_migration: bool = true;
        YES_NO, LIVE, Nothing,
        "Lets replicas move to primaries that have none.";
    "cluster-require-full-coverage" => cluster_require_full_coverage: bool = true;
        YES_NO, LIVE, Nothing,
        "Stops answering while some slot has no node.";
    "cluster-allow-reads-when-down" => cluster_allow_reads_when_down: bool = false;
        YES_NO, LIVE, Nothing,
        "Answers reads while the cluster is down.";
    "cluster-allow-pubsubshard-when-down" => cluster_allow_pubsubshard_when_down: bool = true;
        YES_NO, LIVE, Nothing,
        "Delivers sharded messages while the cluster is down.";
    "cluster-slot-migration-handoff-max-lag-bytes"
        => cluster_slot_migration_handoff_max_lag_bytes: u64 = 1 << 20;
        memory(0, ULONG_MAX), LIVE, Nothing,
        "Bytes of writes that may be on their way when slots that move are handed over.";
    "cluster-slot-migration-write-pause-timeout"
        => cluster_slot_migration_write_pause_timeout: u64 = 10_000;
        int(1, INT_MAX), LIVE, Nothing,
        "Milliseconds that writes to slots wait at most while these are handed over.";
    "cluster-link-sendbuf-limit" => cluster_link_sendbuf_limit: u64 = 0;
        memory(0, ULONG_MAX), LIVE, Nothing,
        "Bytes that may wait for another node before the link is dropped; 0 sets no limit.";
    "cluster-announce-ip" => cluster_announce_ip: Option<Text> = None;
        ANY_TEXT, LIVE, Nothing,
        "Address the node tells others, if it is not the one they see.";
    "cluster-announce-client-ipv4" => cluster_announce_client_ipv4: Option<Text> = None;
        checked(check::ipv4), LIVE, Nothing,
        "IPv4 address the node tells clients.";
    "cluster-announce-client-ipv6" => cluster_announce_client_ipv6: Option<Text> = None;
        checked(check::ipv6), LIVE, Nothing,
        "IPv6 address the node tells clients.";
    "cluster-announce-hostname" => cluster_announce_hostname: Option<Text> = None;
        checked(check::hostname), LIVE, Nothing,
        "Host name the node tells others.";
    "cluster-announce-human-nodename" => cluster_announce_human_nodename: Option<Text> = None;
        checked(check::node_name), LIVE, Nothing,
        "Name of the node in logs.";
    "cluster-announce-port" => cluster_announce_port: u16 = 0;
        int(0, 65535), LIVE, Nothing,
        "Client port the node tells others; 0 tells the one it listens on.";
    "cluster-announce-tls-port" => cluster_announce_tls_port: u16 = 0;
        int(0, 65535), LIVE, Nothing,
        "TLS port the node tells others; 0 tells the one it listens on.";
    "cluster-announce-bus-port" => cluster_announce_bus_port: u16 = 0;
        int(0, 65535), LIVE, Nothing,
        "Bus port the node tells others; 0 tells the one it listens on.";
    "cluster-preferred-endpoint-type" => cluster_preferred_endpoint_type: EndpointType =
        EndpointType::Ip; ONE_WORD, LIVE, Nothing,
        "How redirections name a node.";
    "cluster-blacklist-ttl" => cluster_blacklist_ttl: u64 = 60;
        int(0, ULONG_MAX), LIVE, Nothing,
        "Seconds a forgotten node stays forgotten.";
    "cluster-ping-interval" => cluster_ping_interval: u64 = 0;
        int(0, LONG_MAX), LIVE.hidden(), Nothing,
        "Milliseconds between pings on the cluster bus; 0 takes the usual pace.";
    "cluster-slot-stats-enabled" => cluster_slot_stats_enabled: bool = false;
        YES_NO, LIVE, Nothing,
        "Counts traffic and CPU time of each slot.";
}

section "Observation" {
    "slowlog-log-slower-than" => slowlog_log_slower_than: i64 = 10_000;
        int(-1, LONG_MAX), LIVE, Nothing,
        "Microseconds from which a command is remembered as slow; -1 remembers none.";
    "slowlog-max-len" => slowlog_max_len: u64 = 128; int(0, LONG_MAX), LIVE, Nothing,
        "Slow commands that are remembered.";
    "latency-monitor-threshold" => latency_monitor_threshold: u64 = 0;
        int(0, LONG_MAX), LIVE, Nothing,
        "Milliseconds from which an event is remembered as a latency spike; 0 remembers none.";
    "latency-tracking" => latency_tracking: bool = true; YES_NO, LIVE, Nothing,
        "Keeps a histogram of each command's time.";
    "latency-tracking-info-percentiles" => latency_tracking_info_percentiles: Percentiles =
        Percentiles::default(); OWN_FORM, LIVE, Nothing,
        "Percentiles of the histograms that INFO shows.";
    "notify-keyspace-events" => notify_keyspace_events: EventClasses = EventClasses::NONE;
        OWN_FORM, LIVE, Nothing,
        "Changes of keys that are published to subscribers; empty publishes none.";
}

section "Threads and timing" {
    "hz" => hz: u32 = 10; int(0, INT_MAX).clamped(1, 500), LIVE, Nothing,
        "Times a second that housekeeping runs.";
    "dynamic-hz" => dynamic_hz: bool = true; YES_NO, LIVE, Nothing,
        "Runs housekeeping more often when many clients are connected.";
    "io-threads" => io_threads: ThreadCount = ThreadCount::Fixed(1); OWN_FORM, FIXED, Nothing,
        "Threads that serve clients, that for commands included; auto: one a processor, to 8.";
    "io-threads-do-reads" => io_threads_do_reads: bool = false;
        YES_NO, FIXED, Nothing,
        "Without effect: these threads always read and parse.";
    "events-per-io-thread" => events_per_io_thread: u32 = 2;
        int(0, INT_MAX), LIVE, Nothing,
        "Ready clients that justify one more such thread; 0 has all of them work always.";
    "prefetch-batch-max-size" => prefetch_batch_max_size: u32 = 16; int(0, 128), LIVE, Nothing,
        "Commands whose keys are fetched into the cache together; 0 and 1 fetch none ahead.";
    "server-cpulist" | "server_cpulist" => server_cpulist: Option<Text> = None;
        ANY_TEXT, FIXED.later(), Nothing,
        "CPUs the executor and its helpers run on.";
    "bio-cpulist" | "bio_cpulist" => bio_cpulist: Option<Text> = None;
        ANY_TEXT, FIXED.later(), Nothing,
        "CPUs the background threads run on.";
    "aof-rewrite-cpulist" | "aof_rewrite_cpulist" => aof_rewrite_cpulist: Option<Text> = None;
        ANY_TEXT, FIXED.later(), Nothing,
        "CPUs a rewrite of the append-only file runs on.";
    "bgsave-cpulist" | "bgsave_cpulist" => bgsave_cpulist: Option<Text> = None;
        ANY_TEXT, FIXED.later(), Nothing,
        "CPUs a snapshot runs on.";
    "oom-score-adj" => oom_score_adj: OomScoreAdj = OomScoreAdj::No;
        ONE_WORD, LIVE.later(), Nothing,
        "Tells the kernel which processes to kill first when memory runs out.";
    "oom-score-adj-values" => oom_score_adj_values: OomScores = OomScores::default();
        OWN_FORM, LIVE.later(), Nothing,
        "The scores of a primary, a replica and a background process.";
    "disable-thp" => disable_thp: bool = true; YES_NO, FIXED.later(), Nothing,
        "Does without transparent huge pages.";
}

section "Testing" {
    "enable-debug-assert" => enable_debug_assert: bool = false; YES_NO, FIXED.hidden(), Nothing,
        "Turns on checks that are too slow for production.";
    "debug-context" => debug_context: Text = Text::default();
        ANY_TEXT, LIVE.hidden(), Nothing,
        "A note that crash reports repeat.";
    "watchdog-period" => watchdog_period: u32 = 0;
        int(0, INT_MAX), LIVE.hidden().later(), Nothing,
        "Milliseconds after which a stuck command is logged; 0 watches none.";
    "use-exit-on-panic" => use_exit_on_panic: bool = false; YES_NO, LIVE.hidden(), Nothing,
        "Exits instead of aborting after an internal error.";
    "rdb-key-save-delay" => rdb_key_save_delay: i32 = 0;
        int(INT_MIN, INT_MAX), LIVE.hidden(), Nothing,
        "Microseconds to wait before each key of a snapshot; negative numbers wait more rarely.";
    "key-load-delay" => key_load_delay: i32 = 0;
        int(INT_MIN, INT_MAX), LIVE.hidden(), Nothing,
        "Microseconds to wait after each key that is loaded; negative numbers wait more rarely.";
    "loading-process-events-interval-bytes" => loading_process_events_interval_bytes: u32 = 2 << 20;
        int(1024, INT_MAX), LIVE.hidden().later(), Nothing,
        "Bytes loaded between two looks at the clients.";
    "req-res-logfile" => req_res_logfile: Option<Text> = None;
        ANY_TEXT, FIXED.hidden().later(), Nothing,
        "File that requests and replies are recorded to.";
    "client-default-resp" => client_default_resp: u32 = 2; int(2, 3), FIXED.hidden(), Nothing,
        "Protocol version that connections start with.";
}

}
