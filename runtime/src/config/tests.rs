use std::collections::HashMap;
use std::io;

use clap::{Args as _, FromArgMatches as _};

use super::*;

#[derive(Default)]
struct Fake {
    vars: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl Environment for Fake {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(|value| (*value).to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = self.files.get(path.to_str().unwrap());
        text.map(|text| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn args(flags: &[&str]) -> ConfigArgs {
    let command = ConfigArgs::augment_args(clap::Command::new("serve"));
    let matches = command.try_get_matches_from([&["serve"], flags].concat()).unwrap();
    ConfigArgs::from_arg_matches(&matches).unwrap()
}

fn resolve(
    file: &'static str,
    vars: &[(&'static str, &'static str)],
    flags: &[&str],
) -> Result<Config, ConfigError> {
    let fake = Fake { vars: vars.iter().copied().collect(), files: [("mayfly.toml", file)].into() };
    Config::resolve(&args(flags), &fake)
}

fn error(file: &'static str, vars: &[(&'static str, &'static str)], flags: &[&str]) -> String {
    resolve(file, vars, flags).unwrap_err().to_string()
}

#[test]
fn nothing_given_is_the_default() {
    let config = Config::resolve(&args(&[]), &Fake::default()).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:3000");
    assert_eq!(config.limits_max.memory_bytes, 4 << 30);
}

#[test]
fn a_node_is_found_whatever_else_the_file_says() {
    let find = |file: &'static str, vars: &[(&'static str, &'static str)]| {
        let fake =
            Fake { vars: vars.iter().copied().collect(), files: [("mayfly.toml", file)].into() };
        NodeAddress::resolve(&fake).map(|(found, broken)| {
            (found.admin.port(), found.state_dir.display().to_string(), broken.is_some())
        })
    };
    let none = (3001, "state".to_owned(), false);
    let file = "nonsense = 1\nstate-dir = \"s\"\n[gateway]\nworkers = 0\n[admin]\nlisten = \"127.0.0.1:9\"\n";
    assert_eq!(find(file, &[]).unwrap(), (9, "s".to_owned(), false));
    let address = ("MAYFLY_ADMIN_LISTEN", "127.0.0.1:8");
    assert_eq!(find(file, &[address, ("MAYFLY_GATEWAY_WORKERS", "x")]).unwrap().0, 8);
    assert_eq!(find("[admin", &[]).unwrap(), (none.0, none.1, true));
    // One of the two keys, or a file that was named, is asked for.
    let wrong = find("[admin]\nlisten = \"here\"\n", &[]).unwrap_err().to_string();
    assert!(wrong.contains("admin.listen (from mayfly.toml)"), "{wrong}");
    assert!(find("[admin", &[("MAYFLY_CONFIG", "mayfly.toml")]).is_err());
}

#[test]
fn a_flag_beats_a_variable_beats_the_file() {
    let file = "[gateway]\nworkers = 1\nconnections = 11\nqueue-timeout = \"1ms\"\n";
    let vars = [("MAYFLY_GATEWAY_WORKERS", "2"), ("MAYFLY_GATEWAY_CONNECTIONS", "12")];
    let config = resolve(file, &vars, &["--gateway-workers", "3"]).unwrap();
    assert_eq!(config.gateway.workers, Some(3));
    assert_eq!(config.gateway.connections, 12);
    assert_eq!(config.gateway.queue_timeout, Duration::from_millis(1));
}

#[test]
fn tables_add_up_and_lists_replace() {
    let file = r#"
        limits-max = { concurrency = 2000 }
        [limits]
        memory = "64MiB"
        concurrency = 7
        [routes]
        "/api/..." = "hello"
        [admin]
        hosts = ["a.example", "b.example"]
    "#;
    let vars = [
        ("MAYFLY_LIMITS", "wall=5s, memory=32MiB"),
        ("MAYFLY_ADMIN_HOSTS", "C.example"),
        ("MAYFLY_DEPLOY", "one=a.wasm,two=b.wasm"),
    ];
    let flags = ["--limits", "cpu=2s", "--routes", "/x=echo", "--deploy", "two=c.wasm"];
    let config = resolve(file, &vars, &flags).unwrap();
    let limits = &config.limits;
    assert_eq!((limits.memory_bytes, limits.concurrency), (32 << 20, 7));
    assert_eq!((limits.wall_us, limits.cpu_us), (5_000_000, 2_000_000));
    assert_eq!(config.admin.hosts, ["c.example"]);
    assert_eq!(config.routes.len(), 2);
    assert_eq!(config.parsed_routes().len(), 2);
    assert_eq!(config.deploy.len(), 2);
    assert_eq!(config.deploy[&FunctionName::new("two").unwrap()], Path::new("c.wasm"));
}

#[test]
fn an_error_names_the_key_and_where_it_came_from() {
    for (message, expect) in [
        (
            error("[gateway]\nworkers = 0", &[], &[]),
            "gateway.workers (from mayfly.toml): '0' is not a whole number from 1 to 1024, or 'auto'",
        ),
        (
            error("", &[("MAYFLY_ADMIN_LISTEN", "3001")], &[]),
            "admin.listen (from MAYFLY_ADMIN_LISTEN): '3001' is not an address",
        ),
        (
            error("", &[], &["--limits", "memory=lots"]),
            "limits (from --limits): limit memory: 'lots' is not a size",
        ),
        (
            error("", &[], &["--gateway-header-timeout=0s"]),
            "gateway.header-timeout (from --gateway-header-timeout): '0s' is not from 1ms to 24h",
        ),
        (
            error("[gateway]\nlistn = 1", &[], &[]),
            "mayfly.toml: there is no key 'gateway.listn'; did you mean 'gateway.listen'?",
        ),
        (error("[gatewy]\nlisten = 1", &[], &[]), "did you mean 'gateway'?"),
        (error("[gateway]\nspeed = 1", &[], &[]), "there are gateway.listen,"),
        (error("workers = 1", &[], &[]), "did you mean 'gateway.workers'?"),
        (error("[engine]\nmemory_budget = 1", &[], &[]), "did you mean 'engine.memory-budget'?"),
        (error("x = ", &[], &[]), "mayfly.toml: TOML parse error at line 1"),
        (error("state-dir = 1.5", &[], &[]), "state-dir (from mayfly.toml): write a string"),
        (error("routes = 1", &[], &[]), "routes (from mayfly.toml): write a table, [routes]"),
        (error("[limits]\nmem = 1", &[], &[]), "there is no limit 'mem'"),
        (error("", &[], &["--routes", "/v1/x=a"]), "reserved"),
        (error("", &[], &["--routes", "/x=A"]), "'A': a function's name may contain only"),
        (error("", &[], &["--deploy", "a"]), "'a' is not key=value"),
        (error("", &[], &["--log-level", "loud"]), "'loud' is not a level"),
        (error("", &[], &["--log-requests", "some"]), "'some' is not one of errors, all, none"),
        (
            error("", &[], &["--limits-max", "memory=64MiB"]),
            "limits.memory is 128MiB, over limits-max.memory of 64MiB",
        ),
        (error("", &[], &["--admin-listen", "127.0.0.1:3000"]), "are both 127.0.0.1:3000"),
        (
            error("", &[], &["--routes", "/a/...=b", "--deploy", "a=a.wasm"]),
            "routes gives /a/... to 'b', and deploy has a function 'a'",
        ),
    ] {
        assert!(message.contains(expect), "{message}\nlacks\n{expect}");
    }
}

#[test]
fn proxies_are_addresses_and_networks_and_a_later_list_replaces() {
    let file = "[gateway]\ntrusted-proxies = [\"127.0.0.1\", \"10.9.8.7/8\", \"2001:db8::/32\", \"::ffff:1.2.3.4\"]";
    let proxies = |config: Config| -> Vec<_> {
        config.gateway.trusted_proxies.iter().map(ToString::to_string).collect()
    };
    let all = ["127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32", "1.2.3.4/32"];
    assert_eq!(proxies(resolve(file, &[], &[]).unwrap()), all);
    let vars = [("MAYFLY_GATEWAY_TRUSTED_PROXIES", "::1, 192.0.2.0/24")];
    assert_eq!(proxies(resolve(file, &vars, &[]).unwrap()), ["::1/128", "192.0.2.0/24"]);
    let flags = ["--gateway-trusted-proxies=10.0.0.1", "--gateway-trusted-proxies=10.0.0.2"];
    assert_eq!(proxies(resolve(file, &vars, &flags).unwrap()), ["10.0.0.1/32", "10.0.0.2/32"]);
    for bad in ["nginx", "10.0.0.0/33", "10.0.0.1:80", "10.0.0"] {
        let flag = format!("--gateway-trusted-proxies={bad}");
        let error = error("", &[], &[&flag]);
        assert!(error.contains(&format!("'{bad}' is neither an address nor a network")), "{error}");
    }
    let many: &'static str = vec!["10.0.0.1"; node::TRUSTED_PROXIES + 1].join(",").leak();
    let error = error("", &[("MAYFLY_GATEWAY_TRUSTED_PROXIES", many)], &[]);
    assert!(error.contains("gateway.trusted-proxies has more than 1000 entries"), "{error}");
}

#[test]
fn keys_of_tls_go_together() {
    let good = "[gateway.tls]\ncert = \"a\"\nkey = \"b\"\n[[gateway.tls.sni]]\nhost = \"Shop.Example\"\ncert = \"c d\"\nkey = \"e\"\n";
    let config = resolve(good, &[], &[]).unwrap();
    let entry = SniKeys { host: "shop.example".into(), cert: "c d".into(), key: "e".into() };
    assert_eq!(config.gateway.tls.sni, [entry]);
    // A later layer replaces, and takes back.
    let flags = [
        "--gateway-tls-sni=host=a.example cert=a key=b",
        "--gateway-tls-sni=host=*.b.example cert=a key=b",
    ];
    let hosts: Vec<_> = resolve(good, &[], &flags).unwrap().gateway.tls.sni;
    assert_eq!(
        hosts.iter().map(|entry| &*entry.host).collect::<Vec<_>>(),
        ["a.example", "*.b.example"]
    );
    let none = [
        ("MAYFLY_GATEWAY_TLS_CERT", ""),
        ("MAYFLY_GATEWAY_TLS_KEY", ""),
        ("MAYFLY_GATEWAY_TLS_SNI", ""),
    ];
    assert_eq!(resolve(good, &none, &[]).unwrap(), Config::default());
    let both = ["--gateway-tls-cert=a", "--gateway-tls-key=b"];
    for (file, more, expect) in [
        ("", &["--gateway-tls-cert=a"][..], "gateway.tls.cert is set and gateway.tls.key is not"),
        ("", &["--admin-tls-key=a"], "admin.tls.key is set and admin.tls.cert is not"),
        (
            "",
            &["--gateway-tls-listen=0.0.0.0:1"],
            "gateway.tls.listen is set and gateway.tls.cert is not",
        ),
        ("", &["--gateway-tls-client-ca=a"], "gateway.tls.client-ca is set"),
        (
            good,
            &["--gateway-tls-listen=127.0.0.1:3000"],
            "gateway.tls.listen and gateway.listen are both",
        ),
        (
            good,
            &["--gateway-tls-client-auth=some"],
            "'some' is not one of required, optional, or 'auto'",
        ),
        (good, &["--gateway-tls-client-auth=required"], "gateway.tls.client-ca is not set"),
        ("", &["--gateway-tls-sni=a"], "write host=NAME cert=FILE key=FILE"),
        ("", &["--gateway-tls-sni=host=a:1 cert=a key=b"], "'a:1' is not a host's name"),
        ("", &[both[0], both[1], flags[0], flags[0]], "gateway.tls.sni has 'a.example' twice"),
        ("[[gateway.tls.sni]]\nhost = \"a\"\ncert = \"b\"", &[], "an entry lacks 'key'"),
        (
            "[[gateway.tls.sni]]\nhots = \"a\"",
            &[],
            "there is no 'hots' in an entry: it has host, cert, key",
        ),
        ("[gateway.tls]\nsni = \"a\"", &[], "write [[gateway.tls.sni]] with host=NAME"),
        ("[gateway.tls]\ncerts = \"a\"", &[], "did you mean 'gateway.tls.cert'?"),
    ] {
        let error = error(file, &[], more);
        assert!(error.contains(expect), "{error}\nlacks\n{expect}");
    }
    // The node's own verbs find it.
    let file = "[admin.tls]\ncert = \"a.pem\"\n";
    let fake = Fake { files: [("mayfly.toml", file)].into(), ..Fake::default() };
    let (found, _) = NodeAddress::resolve(&fake).unwrap();
    assert_eq!(found.certificate.as_deref(), Some(Path::new("a.pem")));
}

#[test]
fn a_named_file_must_be_there() {
    let missing = Fake { vars: [("MAYFLY_CONFIG", "x.toml")].into(), ..Fake::default() };
    let error = Config::resolve(&args(&[]), &missing).unwrap_err().to_string();
    assert!(error.starts_with("cannot read x.toml"), "{error}");
    let named = Fake { files: [("y.toml", "state-dir = \"z\"")].into(), ..missing };
    let config = Config::resolve(&args(&["--config", "y.toml"]), &named).unwrap();
    assert_eq!(config.state_dir, Path::new("z"));
}

#[test]
fn what_is_printed_gives_the_same_again() {
    let flags = [
        "--state-dir=/var/lib/may fly\"",
        "--gateway-workers=3",
        "--gateway-drain-timeout=3s",
        "--server-timing",
        "--engine-memory-budget=1GiB",
        "--engine-native-kernels=off",
        "--admin-hosts=a.example",
        "--log-requests=all",
        "--log-format=json",
        "--limits=memory=1MiB",
        "--limits-max=concurrency=2000",
        "--routes=/api/...=hello",
        "--deploy=hello=target/a=b.wasm",
    ];
    for flags in [&flags[..], &[]] {
        let config = resolve("", &[], flags).unwrap();
        let printed: &'static str = config.to_toml().leak();
        assert_eq!(resolve(printed, &[], &[]).unwrap(), config, "{printed}");
    }
}

#[test]
fn every_key_works_as_file_variable_and_flag() {
    // A value that is not the default, of each key.
    let values = [
        ("state-dir", "elsewhere"),
        ("server-timing", "true"),
        ("gateway.listen", "0.0.0.0:80"),
        ("gateway.tls.cert", "a.pem"),
        ("gateway.tls.key", "a.key"),
        ("gateway.tls.listen", "0.0.0.0:443"),
        ("gateway.tls.sni", "host=*.b.example cert=b.pem key=b.key"),
        ("gateway.tls.client-ca", "ca.pem"),
        ("gateway.tls.client-auth", "optional"),
        ("gateway.trusted-proxies", "10.1.2.0/24"),
        ("gateway.list-models", "false"),
        ("gateway.front-page", "false"),
        ("gateway.workers", "7"),
        ("gateway.connections", "7"),
        ("gateway.header-timeout", "7s"),
        ("gateway.body-idle-timeout", "7s"),
        ("gateway.write-idle-timeout", "7s"),
        ("gateway.keep-alive-timeout", "7s"),
        ("gateway.queue-timeout", "7s"),
        ("gateway.drain-timeout", "7s"),
        ("admin.listen", "[::1]:99"),
        ("admin.hosts", "a.example"),
        ("admin.tls.cert", "a.pem"),
        ("admin.tls.key", "a.key"),
        ("engine.slots", "7"),
        ("engine.memory-budget", "7GiB"),
        ("engine.guest-threads", "7"),
        ("engine.native-kernels", "false"),
        ("secrets.key-file", "x.key"),
        ("secrets.dir", "/run/secrets"),
        ("outbound.allow", "https://*.example.com"),
        ("outbound.deny", "POST https://a.example.com/v1/..."),
        ("outbound.private", "10.1.0.0/16"),
        ("outbound.ca", "ca.pem"),
        ("log.format", "json"),
        ("log.level", "debug"),
        ("log.requests", "all"),
        ("limits", "memory=7MiB"),
        ("limits-max", "concurrency=7000"),
        ("routes", "/x/...=hello"),
        ("deploy", "hello=x.wasm"),
    ];
    assert!(values.iter().map(|(name, _)| *name).eq(KEYS.iter().map(|key| key.name)));
    for (key, (_, value)) in KEYS.iter().zip(values) {
        let flag = format!("--{}={value}", key.flag());
        // A certificate wants its key, and what else TLS has wants both.
        let with: &[&str] = match key.name {
            "gateway.tls.cert" => &["--gateway-tls-key=x"],
            "gateway.tls.key" => &["--gateway-tls-cert=x"],
            "admin.tls.cert" => &["--admin-tls-key=x"],
            "admin.tls.key" => &["--admin-tls-cert=x"],
            name if name.starts_with("gateway.tls.") => {
                &["--gateway-tls-cert=x", "--gateway-tls-key=x"]
            }
            _ => &[],
        };
        let by_flag =
            Config::resolve(&args(&[&[&*flag], with].concat()), &Fake::default()).unwrap();
        assert_ne!(by_flag, Config::default(), "{}", key.name);
        let env: &'static str = key.env().leak();
        assert_eq!(resolve("", &[(env, value)], with).unwrap(), by_flag, "{}", key.name);
        let file: &'static str = by_flag.to_toml().leak();
        assert_eq!(resolve(file, &[], &[]).unwrap(), by_flag, "{}", key.name);
    }
}

#[test]
fn the_document_has_every_key() {
    let document = include_str!("../../../docs/config.md");
    let mut rows = String::new();
    for key in KEYS {
        rows += &format!(
            "| `{}` | `--{}` | `{}` | `{}` | {} |\n",
            key.name,
            key.flag(),
            key.env(),
            key.default(),
            key.help.replace('|', "\\|")
        );
    }
    assert!(document.contains(&rows), "docs/config.md needs these rows:\n{rows}");
}
