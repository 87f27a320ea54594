//! What is given, from each of the layers, as text.

use std::fmt;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::keys::{KEYS, Key, Kind, NAMES};
use super::{Config, ConfigError, Environment, variables};

/// The file that is read if it is there and no other is named.
const FILE: &str = "mayfly.toml";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file.
    File(PathBuf),
    /// A variable.
    Variable(&'static str),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// One key's value in one layer.
pub(super) struct Given {
    key: &'static Key,
    origin: Origin,
    values: Vec<String>,
}

impl Given {
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        // A list is replaced.
        match self.key.name {
            "admin.hosts" => config.admin.hosts.clear(),
            "gateway.tls.sni" => config.gateway.tls.sni.clear(),
            "gateway.trusted-proxies" => config.gateway.trusted_proxies.clear(),
            _ => {}
        }
        for value in &self.values {
            (self.key.set)(config, value).map_err(|why| ConfigError::Value {
                key: self.key.name.into(),
                origin: self.origin.clone(),
                why,
            })?;
        }
        Ok(())
    }
}

/// The flags of `mayfly serve`: one for each key, and where the file is.
#[derive(Debug, Clone, Default)]
pub struct ConfigArgs {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Position in [`KEYS`], and the values given.
    flags: Vec<(usize, Vec<String>)>,
}

impl Args for ConfigArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(
                "configuration file [env: MAYFLY_CONFIG] [default: mayfly.toml, if there is one]",
            );
        KEYS.iter().zip(NAMES.iter()).fold(command.arg(file), |command, (key, names)| {
            let arg = Arg::new(key.name)
                .long(names.flag.as_str())
                .value_name(key.value)
                .help(names.help.as_str())
                .help_heading("Configuration");
            command.arg(match key.kind {
                Kind::One => arg.action(ArgAction::Set),
                Kind::Switch => {
                    arg.num_args(0..=1).require_equals(true).default_missing_value("true")
                }
                Kind::List | Kind::Pairs | Kind::Tables => arg.action(ArgAction::Append),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one("config").cloned();
        self.flags = KEYS
            .iter()
            .enumerate()
            .filter_map(|(i, key)| {
                let values = matches.get_many::<String>(key.name)?;
                Some((i, values.cloned().collect()))
            })
            .collect();
        Ok(())
    }
}

/// All that is given, the weakest layer first.
pub(super) fn collect(
    args: &ConfigArgs,
    environment: &dyn Environment,
) -> Result<Vec<Given>, ConfigError> {
    let mut given = from_file(args, environment)?;
    for (key, names) in KEYS.iter().zip(NAMES.iter()) {
        let Some(text) = environment.var(&names.env) else { continue };
        given.push(Given {
            key,
            origin: Origin::Variable(&names.env),
            values: match key.kind {
                Kind::One | Kind::Switch => vec![text],
                Kind::List | Kind::Pairs | Kind::Tables => split(&text),
            },
        });
    }
    given.extend(args.flags.iter().map(|(i, values)| Given {
        key: &KEYS[*i],
        origin: Origin::Flag(&NAMES[*i].flag),
        values: values.clone(),
    }));
    Ok(given)
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn from_file(args: &ConfigArgs, environment: &dyn Environment) -> Result<Vec<Given>, ConfigError> {
    let Some((path, table)) = read_table(args.file.clone(), environment)? else {
        return Ok(Vec::new());
    };
    let mut given = Vec::new();
    walk(&table, "", &Origin::File(path), &mut given)?;
    Ok(given)
}

/// The file, if there is one.
fn read_table(
    named: Option<PathBuf>,
    environment: &dyn Environment,
) -> Result<Option<(PathBuf, toml::Table)>, ConfigError> {
    let named = named.or_else(|| environment.var("MAYFLY_CONFIG").map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| FILE.into());
    let text = match environment.read(&path) {
        Ok(text) => text,
        Err(why) if named.is_none() && why.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(why) => return Err(ConfigError::Read { path, why }),
    };
    match toml::from_str(&text) {
        Ok(table) => Ok(Some((path, table))),
        Err(why) => Err(ConfigError::Syntax { path, why }),
    }
}

/// What the layers say of these keys alone. What else is in the file, right or wrong, is not looked at; a file that nobody
/// named and that is no TOML is not used, and the second value says why.
pub(super) fn collect_only(
    keys: &[&str],
    environment: &dyn Environment,
) -> Result<(Vec<Given>, Option<ConfigError>), ConfigError> {
    let wanted = || KEYS.iter().zip(NAMES.iter()).filter(|(key, _)| keys.contains(&key.name));
    let (table, broken) = match read_table(None, environment) {
        Ok(read) => (read, None),
        Err(why) if environment.var("MAYFLY_CONFIG").is_none() => (None, Some(why)),
        Err(why) => return Err(why),
    };
    let mut given = Vec::new();
    if let Some((path, table)) = table {
        for (key, _) in wanted() {
            let Some(value) = find(&table, key.name) else { continue };
            let origin = Origin::File(path.clone());
            let values = texts(key, value).map_err(|why| ConfigError::Value {
                key: key.name.into(),
                origin: origin.clone(),
                why,
            })?;
            given.push(Given { key, origin, values });
        }
    }
    for (key, names) in wanted() {
        let Some(text) = environment.var(&names.env) else { continue };
        given.push(Given { key, origin: Origin::Variable(&names.env), values: vec![text] });
    }
    Ok((given, broken))
}

/// What a table has under a name with dots between tables.
fn find<'t>(table: &'t toml::Table, name: &str) -> Option<&'t toml::Value> {
    let mut parts = name.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

fn walk(
    table: &toml::Table,
    prefix: &str,
    origin: &Origin,
    given: &mut Vec<Given>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        if let Some(key) = KEYS.iter().find(|key| key.name == name) {
            let values = texts(key, value).map_err(|why| ConfigError::Value {
                key: name,
                origin: origin.clone(),
                why,
            })?;
            given.push(Given { key, origin: origin.clone(), values });
            continue;
        }
        let inside = format!("{name}.");
        match value {
            toml::Value::Table(table) if KEYS.iter().any(|key| key.name.starts_with(&inside)) => {
                walk(table, &inside, origin, given)?;
            }
            _ => {
                let suggestion = suggest(&name);
                return Err(ConfigError::Unknown { key: name, origin: origin.clone(), suggestion });
            }
        }
    }
    Ok(())
}

/// The texts of a value in the file, of the shape that the key wants.
fn texts(key: &Key, value: &toml::Value) -> Result<Vec<String>, String> {
    match (key.kind, value) {
        (Kind::Pairs, toml::Value::Table(table)) => {
            table.iter().map(|(name, value)| Ok(format!("{name}={}", text(value)?))).collect()
        }
        (Kind::Pairs, _) => Err(format!("write a table, [{}], with {} in it", key.name, key.value)),
        (Kind::List, toml::Value::Array(items)) => items.iter().map(text).collect(),
        (Kind::List, _) => Err("write an array of strings".into()),
        (Kind::Tables, toml::Value::Array(items)) => {
            items.iter().map(|item| row(key, item)).collect()
        }
        (Kind::Tables, _) => Err(format!("write [[{}]] with {}", key.name, key.value)),
        (Kind::One | Kind::Switch, value) => Ok(vec![text(value)?]),
    }
}

/// One table of an array as a flag has it.
fn row(key: &Key, item: &toml::Value) -> Result<String, String> {
    let fields = || key.value.split(' ').filter_map(|field| Some(field.split_once('=')?.0));
    let wanted = || fields().collect::<Vec<_>>().join(", ");
    let table = item.as_table().ok_or_else(|| format!("write tables with {} in them", wanted()))?;
    if let Some(other) = table.keys().find(|name| !fields().any(|field| field == *name)) {
        return Err(format!("there is no '{other}' in an entry: it has {}", wanted()));
    }
    let given = fields().map(|field| {
        let value = table.get(field).ok_or_else(|| format!("an entry lacks '{field}'"))?;
        Ok(format!("{field}={}", text(value)?))
    });
    given.collect::<Result<Vec<_>, String>>().map(|given| given.join(" "))
}

fn text(value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(n) => Ok(n.to_string()),
        toml::Value::Boolean(b) => Ok(b.to_string()),
        other => {
            Err(format!("write a string, a whole number or a boolean, not a {}", other.type_str()))
        }
    }
}

/// The key that has the most in common with what was written: nearly the same letters, the same last part, or the same
/// table.
fn suggest(name: &str) -> String {
    let tables = KEYS.iter().filter_map(|key| Some(key.name.split_once('.')?.0));
    let all = KEYS.iter().map(|key| key.name).chain(tables);
    let nearest = all.min_by_key(|known| variables::distance(name, known));
    if let Some(nearest) = nearest.filter(|near| variables::distance(name, near) <= variables::OFF)
    {
        return format!("; did you mean '{nearest}'?");
    }
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().replace('_', "-");
    let same_last = KEYS.iter().find(|key| last(key.name) == last(name));
    if let Some(key) = same_last {
        return format!("; did you mean '{}'?", key.name);
    }
    let table = name.split('.').next().unwrap_or_default();
    let inside: Vec<_> = KEYS
        .iter()
        .map(|key| key.name)
        .filter(|key| key.split('.').next() == Some(table))
        .collect();
    if inside.is_empty() {
        "; `mayfly serve --print-config` shows all keys".into()
    } else {
        format!("; there are {}", inside.join(", "))
    }
}
