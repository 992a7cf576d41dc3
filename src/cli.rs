//! The whole of the program but its allocator: command line in, exit code out. Entry point: [`main`], for binaries that
//! bring plugins of their own as well.

use std::io::Write;
use std::process::ExitCode;

use epp_framework::plugin::PluginType;

use crate::args::read::{Ending, read};
use crate::args::{Command, ServeArgs};
use crate::commands::Work;
use crate::commands::standalone::StandaloneTool;
use crate::{commands, stdout};

/// Does what the command line says. Configurations may name the built-in types of plugins, and those of `extra`; where
/// names are the same, the built-in one is meant.
pub fn main(extra: &[PluginType]) -> ExitCode {
    let types: &'static [PluginType] = [epp_plugins::BUILT_IN, extra].concat().leak();
    let words: Result<Vec<_>, _> = std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect();
    let Ok(words) = words else {
        complain("an argument is not UTF-8");
        return ExitCode::from(2);
    };
    let args = match read(words, &|name| std::env::var(name).ok()) {
        Ok(args) => args,
        Err(Ending::Show(text)) => {
            let Err(error) = stdout::print(&text) else { return ExitCode::SUCCESS };
            complain(format_args!("cannot write to standard output: {error}"));
            return ExitCode::from(2);
        }
        Err(Ending::Usage(error)) => error.exit(),
        Err(Ending::Refused(problems)) => {
            problems.iter().for_each(complain);
            return ExitCode::FAILURE;
        }
    };
    let work = match args.command {
        Some(Command::Config(tool)) => return end(&commands::config::run(&tool.command, types)),
        Some(Command::Standalone(tool)) => match *tool {
            StandaloneTool { command: Some(command), .. } => {
                return end(&commands::standalone::run(&command, types));
            }
            StandaloneTool { run, .. } => Work::Standalone(Box::new(run)),
        },
        Some(Command::Sim(sim)) => Work::Sim(Box::new(sim)),
        None => Work::Serve,
    };
    match run(args.serve, work, types) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn end(ended: &commands::config::Ended) -> ExitCode {
    ended.trouble.iter().for_each(complain);
    ExitCode::from(ended.status)
}

fn complain(what: impl std::fmt::Display) {
    // Nothing can be done about a closed stderr.
    let _ = writeln!(std::io::stderr(), "epp: {what}");
}

fn run(serve: ServeArgs, work: Work, types: &'static [PluginType]) -> anyhow::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if matches!(work, Work::Serve) {
        // The server serves requests on threads of its own; what is left is dearer when it moves between threads.
        runtime.worker_threads(1);
    }
    runtime.enable_all().build()?.block_on(commands::execute(serve, work, types))
}
