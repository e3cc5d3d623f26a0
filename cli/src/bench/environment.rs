//! On what, and how, it was measured.

use std::fs;

use nix::sys::utsname::uname;

use super::payload::Input;
use super::plan::Plan;

/// A few lines for the head of the table.
pub fn describe(plan: &Plan, input: &Input, usable: &[usize]) -> String {
    let kernel = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| processor(&text));
    let place = match (plan.apart.leader, plan.apart.follower) {
        (Some(leader), Some(follower)) => format!("the two processes on {leader} and {follower}"),
        _ => "the two processes where the kernel puts them".into(),
    };
    let arguments: Vec<_> = std::env::args().collect();
    format!(
        "{} core(s) to use ({place}) | Linux {kernel} | {}\n{} | input {} | {} rounds, {} ms a sample\n",
        usable.len(),
        processor.unwrap_or_else(|| std::env::consts::ARCH.into()),
        arguments.join(" "),
        input.path.display(),
        plan.rounds,
        plan.budget.as_millis(),
    )
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn processor_is_found() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t: x\n";
        assert_eq!(super::processor(text).as_deref(), Some("Some CPU @ 3 GHz"));
        assert_eq!(super::processor("no"), None);
    }
}
