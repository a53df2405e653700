//! Help, and the command that does nothing.

use super::super::command::{Call, Command, Outcome};
use super::super::result_code::Failure;

/// `btree_help ?NAME?`: usage and purpose of one command, or of all, each table below its title.
pub(super) fn help(call: &mut Call<'_>) -> Outcome {
    if !call.has(1) {
        let lines = super::tables().flat_map(|(title, commands)| {
            let commands = commands.iter().map(|command| format!("  {}", line(command)));
            std::iter::once((*title).to_owned()).chain(commands)
        });
        return Ok(lines.collect::<Vec<_>>().join("\n").into());
    }
    let name = call.string(1)?;
    let mut known = super::all();
    match known.find(|command| command.name.to_bytes() == name.as_bytes()) {
        Some(command) => Ok(line(command).into()),
        None => {
            let text = format!("no such command: \"{name}\"");
            Err(Failure::message(text, &["TCL", "LOOKUP", "COMMAND", &name]))
        }
    }
}

fn line(command: &Command) -> String {
    let (name, usage) = (command.name.to_string_lossy(), command.usage.to_string_lossy());
    format!("{name} {usage} -- {}", command.help)
}

/// `btree_breakpoint ?ARG ...?`
pub(super) fn breakpoint(_call: &mut Call<'_>) -> Outcome {
    Ok(().into())
}
