//! Command line and environment → [`Args`]. [`read`] is the entry point; it reads nothing by itself.

use std::any::TypeId;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, CommandFactory, Parser};

use super::environment;
use super::flags::{self, FLAGS, Fate, HINT_KEY, Kind};
use super::pool_flag::PoolFlag;
use super::syntax::{self, Given, Grammar, Known, Line};
use super::{Args, ServeArgs, help, review, selector};
use crate::config::problem::shown;
use crate::discovery::kube::kinds::{OLDER_GROUP, POOL_GROUP};
use crate::ext_proc::destination::{DESTINATION, DestinationHint, NAMESPACE};

/// API groups that a pool may be of; the first is that of v1.0.1, the second the older one.
const POOL_GROUPS: [&str; 2] = [POOL_GROUP, OLDER_GROUP];

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Ending {
    /// Help or the version was asked for.
    Show(String),
    /// The command line cannot be read.
    Usage(clap::Error),
    /// What it asks for cannot be done; all reasons, one a line.
    Refused(Vec<String>),
}

/// Looks up a variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the words after the program's name.
pub fn read(words: Vec<String>, env: Env<'_>) -> Result<Args, Ending> {
    let mut command = Args::command();
    command.build();
    match words.first().map(String::as_str) {
        Some("help") if words.len() == 1 => return Err(Ending::Show(help::render(&command, true))),
        // Subcommands take their flags by themselves.
        Some(word) if !word.is_empty() && !word.starts_with('-') => return parse(words),
        _ => {}
    }
    let (given, notes) = match syntax::read(&words, &grammar(&command)) {
        Ok(Line::Serve { given, notes }) => (given, notes),
        Ok(Line::Help { long }) => return Err(Ending::Show(help::render(&command, long))),
        Ok(Line::Version) => return Err(Ending::Show(command.render_version())),
        Err(error) => {
            let text = format!("{error}\n\nUsage: {}\n\nFor more information, try '--help'.\n", help::USAGE);
            return Err(Ending::Usage(clap::Error::raw(ErrorKind::InvalidValue, text)));
        }
    };
    let mut reading =
        Reading { legacy: given.iter().any(Given::is_camel_case), given, notes, problems: Vec::new() };
    reading.tell_new_names();
    if reading.legacy {
        reading.bind(env, &command);
    }
    let mut args = parse(reading.words(&command))?;
    reading.finish(&mut args.serve, env);
    if !reading.problems.is_empty() {
        return Err(Ending::Refused(reading.problems));
    }
    args.serve.notes = reading.notes;
    Ok(args)
}

fn parse(words: Vec<String>) -> Result<Args, Ending> {
    Args::try_parse_from(std::iter::once("epp".to_owned()).chain(words)).map_err(Ending::Usage)
}

/// Everything that may stand on the command line: our own flags, and those of all versions by all their names.
fn grammar(command: &clap::Command) -> Grammar {
    let mut grammar = Grammar::default();
    for flag in FLAGS {
        for name in [Some(flag.name), flag.camel].into_iter().flatten() {
            grammar.add(name, Known { flag: flag.name.to_owned(), kind: flag.kind, repeats: false });
        }
    }
    for (name, arg) in declared(command) {
        let kind = flags::find(name).map_or_else(|| kind(arg), |flag| flag.kind);
        let repeats = matches!(arg.get_action(), ArgAction::Append);
        grammar.add(name, Known { flag: name.to_owned(), kind, repeats });
    }
    command.get_subcommands().for_each(|subcommand| grammar.add_subcommand(subcommand.get_name()));
    grammar
}

/// The flags that take part in parsing, by name.
pub(super) fn declared(command: &clap::Command) -> impl Iterator<Item = (&str, &Arg)> {
    let arguments =
        command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()));
    arguments.filter_map(|arg| arg.get_long().map(|name| (name, arg)))
}

/// How the value of a flag of our own is written, by its type.
pub(super) fn kind(arg: &Arg) -> Kind {
    let integers = [holds::<u8>, holds::<u16>, holds::<u32>, holds::<u64>, holds::<i32>, holds::<i64>];
    match arg {
        arg if holds::<bool>(arg) => Kind::Bool,
        arg if integers.iter().any(|holds| holds(arg)) => Kind::Integer,
        _ => Kind::Text,
    }
}

fn holds<T: 'static>(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<T>()
}

struct Reading {
    given: Vec<Given>,
    legacy: bool,
    notes: Vec<String>,
    problems: Vec<String>,
}

impl Reading {
    fn tell_new_names(&mut self) {
        let renamed = self.given.iter().filter(|given| given.is_camel_case());
        let renamed = renamed.filter(|given| !given.flag.contains(|c: char| c.is_ascii_uppercase()));
        let pairs: Vec<_> = renamed.map(|given| format!("--{} for {}", given.flag, given.written)).collect();
        if !pairs.is_empty() {
            self.notes.push(format!("flags of v0.5.1 have new names; write {}", pairs.join(", ")));
        }
    }

    /// Adds the flags that variables set and the command line does not.
    fn bind(&mut self, env: Env<'_>, command: &clap::Command) {
        for (flag, name, value) in environment::bindings(env) {
            if self.given.iter().any(|given| given.flag == flag.name) {
                continue;
            }
            let parses = |value: &str| {
                let words = ["epp".to_owned(), format!("--{}={value}", flag.name)];
                command.clone().try_get_matches_from(words).is_ok()
            };
            match flag.kind.normalize(&value).ok().filter(|value| parses(value)) {
                Some(value) => {
                    let (flag, name) = (flag.name.to_owned(), name.to_owned());
                    self.given.push(Given { flag, written: name.clone(), name, value });
                }
                None => self.notes.push(format!("{name}: {} cannot be read and is ignored", shown(&value))),
            }
        }
    }

    /// The words for the parser; flags that it does not know are dealt with here.
    fn words(&mut self, command: &clap::Command) -> Vec<String> {
        let mut words = Vec::new();
        for Given { flag, written, value, .. } in &self.given {
            match flags::find(flag).map_or(Fate::Same, |known| known.fate) {
                Fate::Inert { why, told } => {
                    if told == Some(value.as_str()) {
                        self.notes.push(format!("{written} has no effect: {why}"));
                    }
                }
                Fate::Same | Fate::Changed(_) => {
                    let declared = declared(command).find(|(name, _)| name == flag).map(|(_, arg)| arg);
                    // An empty path is how charts leave a flag out.
                    if !(value.is_empty() && declared.is_some_and(holds::<PathBuf>)) {
                        words.push(format!("--{flag}={value}"));
                    }
                }
            }
        }
        words
    }

    /// Sets what follows from other values and from variables, and checks what clap cannot.
    fn finish(&mut self, args: &mut ServeArgs, env: Env<'_>) {
        args.legacy = self.legacy;
        if args.config.config_text.take_if(|text| text.is_empty()).is_some() {
            self.notes.push("--config-text is empty, which is as if it were not given".to_owned());
        }

        self.check_pools(args);
        let pool = &mut args.pool;
        if pool.pool_namespace.is_empty() {
            pool.pool_namespace =
                environment::variable(env, "NAMESPACE").unwrap_or_else(|| "default".to_owned());
        }
        let selected = !args.cluster.endpoint_selector.0.is_empty();
        if selected && !pool.pool.is_empty() {
            // Told above.
        } else if selected && pool.pool_name.is_empty() {
            let pod = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| environment::variable(env, name));
            pool.pool_name = selector::pool_name(&pod.unwrap_or_default());
        } else if selected {
            let text = "--pool-name and --endpoint-selector each say what the pool is: set only one of them";
            self.problems.push(text.to_owned());
        }
        if pool.pool_group.is_empty() {
            POOL_GROUPS[usize::from(self.legacy)].clone_into(&mut pool.pool_group);
        }
        if self.legacy {
            let has_config = args.config.config_file.is_some() || args.config.config_text.is_some();
            args.config.built_in = environment::built_in(env, has_config, &mut self.notes);
        }
        environment::note_gates(env, &mut self.notes);
        self.notes.extend(review::review(args));
        self.check(args);
        self.check_hint(args);
    }

    /// The names under which the destination is told: whether they are any, and whether a gateway of today reads them.
    fn check_hint(&mut self, args: &ServeArgs) {
        match args.listeners.destination_hint() {
            Ok(hint) if hint == DestinationHint::default() => {}
            Ok(hint) => {
                let key = hint.key();
                let place =
                    hint.namespace().map_or_else(|| "at the top".to_owned(), |n| format!("in {}", shown(n)));
                self.notes.push(format!(
                    "destinations are told as the header {} and as metadata {place}; gateways of v1.0.1 and later \
                     expect {DESTINATION} and {NAMESPACE}",
                    shown(key)
                ));
                if key.starts_with("x-envoy-") {
                    self.notes.push(format!(
                        "{key}: Envoy ignores that header of a picker unless its filter has `mutation_rules` with \
                         `allow_envoy: true`, and what a client sends stands"
                    ));
                }
            }
            Err(error) => {
                let written = self.given.iter().find(|given| given.flag == HINT_KEY);
                let written = written.map_or(HINT_KEY, |given| &given.written);
                self.problems.push(format!("{written} cannot be {error}"));
            }
        }
    }

    /// Several pools: what goes with them, and whether they are different ones.
    fn check_pools(&mut self, args: &ServeArgs) {
        let pools = &args.pool.pool;
        if pools.is_empty() {
            return;
        }
        for (flag, given) in [
            ("--pool-name", !args.pool.pool_name.is_empty()),
            ("--pool-namespace", !args.pool.pool_namespace.is_empty()),
            ("--endpoint-selector", !args.cluster.endpoint_selector.0.is_empty()),
            ("--endpoints-file", args.pool.endpoints_file.is_some()),
        ] {
            if given {
                self.problems
                    .push(format!("--pool and {flag} each say what the pool is: set only one of them"));
            }
        }
        for (at, pool) in pools.iter().enumerate() {
            let name = pool.full_name();
            if pools[..at].iter().any(|before| before.full_name() == name) {
                self.problems.push(format!("--pool {name} is given twice"));
            }
            let shares = |other: &&PoolFlag| other.port.is_some() && other.port == pool.port;
            let taken = pools[..at].iter().find(shares).map(PoolFlag::full_name);
            let common = (pool.port == Some(args.listeners.grpc_port)).then(|| "--grpc-port".to_owned());
            if let (Some(port @ 1..), Some(other)) = (pool.port, taken.or(common)) {
                self.problems.push(format!("--pool {name}: port {port} is that of {other}"));
            }
        }
    }

    fn check(&mut self, args: &ServeArgs) {
        let (selector, ports) = (&args.cluster.endpoint_selector, &args.cluster.endpoint_target_ports);
        let problem = match (selector.0.is_empty(), ports.0.is_empty()) {
            (false, true) => Some("--endpoint-selector needs --endpoint-target-ports"),
            (true, false) => {
                Some("--endpoint-target-ports is for --endpoint-selector: a pool has its own ports")
            }
            _ if selector.0.is_empty() || args.pool.endpoints_file.is_none() => None,
            _ => Some(
                "--endpoint-selector and --endpoints-file each say which endpoints there are: set only one",
            ),
        };
        self.problems.extend(problem.map(str::to_owned));
        if args.pool.pool_name.is_empty() && args.pool.pool.is_empty() {
            let text = "required \"poolName\" flag not set (-poolName or --pool-name); see epp --help";
            self.problems.push(text.to_owned());
        }
        if !POOL_GROUPS.contains(&args.pool.pool_group.as_str()) {
            let group = shown(&args.pool.pool_group);
            self.problems
                .push(format!("unknown group {group}: --pool-group is one of {}", POOL_GROUPS.join(", ")));
        }
        if args.config.config_file.is_some() && args.config.config_text.is_some() {
            let [text, file] =
                if self.legacy { ["configText", "configFile"] } else { ["config-text", "config-file"] };
            self.problems.push(format!(
                "both the \"{text}\" and \"{file}\" flags can not be set at the same time: set only one of them"
            ));
        }
    }
}
