//! A command line into words, without a shell.

/// Words of a shell that mean something to it alone.
const OF_A_SHELL: [&str; 9] = ["|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1"];

/// Splits at blanks. A pair of quotes keeps what is between; a backslash keeps the next character, but not between
/// single quotes. Nothing is replaced.
///
/// # Errors
/// There is no word, a quote has no end, or something is there that only a shell would understand.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<(String, bool)> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = characters.next().ok_or("a backslash is the last character")?;
                let (text, quoted) = word.get_or_insert_default();
                text.push(next);
                *quoted = true;
            }
            (Some(_), _) => word.get_or_insert_default().0.push(character),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default().1 = true;
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().0.push(character),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("a {quote} has no end"));
    }
    words.extend(word);
    if let Some((sign, _)) =
        words.iter().find(|(word, quoted)| !quoted && OF_A_SHELL.contains(&word.as_str()))
    {
        return Err(format!("{sign} is for a shell, and none runs it: give it a script, or quote it"));
    }
    let words: Vec<String> = words.into_iter().map(|(word, _)| word).collect();
    if words.first().is_none_or(String::is_empty) {
        return Err("expected a program and its arguments".to_owned());
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_split_as_a_shell_would_and_nothing_is_run() {
        let check = |line: &str, expected: &[&str]| assert_eq!(split(line).unwrap(), expected, "{line}");
        check("conntrack -L -o extended", &["conntrack", "-L", "-o", "extended"]);
        check("  ssh\tgw  'cat /proc/net/nf_conntrack' ", &["ssh", "gw", "cat /proc/net/nf_conntrack"]);
        check(r#"a "b \" c"d \  '' 'x\y'"#, &["a", "b \" cd", " ", "", r"x\y"]);
        check("echo $(reboot) `id` $HOME \"|\" ünï", &["echo", "$(reboot)", "`id`", "$HOME", "|", "ünï"]);
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        let check = |line: &str, expected: &str| {
            let error = split(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        };
        check("conntrack -L | grep tcp", "| is for a shell");
        check("a 'b", "a ' has no end");
        check("a \\", "backslash");
        check(" ", "expected a program");
        check("'' a", "expected a program");
    }
}
