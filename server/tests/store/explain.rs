//! What SQLite would do for a statement, and whether that ends soon.

use std::collections::{BTreeSet, HashMap};

use crate::million::Direct;

/// Rows of a window of a list: see `store/lists`.
const WINDOW: usize = 20_000;

/// One table of a statement, as `EXPLAIN QUERY PLAN` tells it.
struct Access<'a> {
    table: &'a str,
    is_search: bool,
    /// What the index answers: `["device_id=?", "rowid<?"]`.
    conditions: Vec<&'a str>,
    /// Along an index that a UNIQUE made.
    by_unique_index: bool,
}

impl<'a> Access<'a> {
    /// What is read of a subquery or a constant is no table.
    /// `SEARCH flows USING INDEX flows_by_device (device_id=? AND rowid<?)`, `SCAN flows`.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let is_search = match words.next()? {
            "SEARCH" => true,
            "SCAN" => false,
            _ => return None,
        };
        let table = words.next().filter(|table| *table != "CONSTANT" && !table.starts_with('('))?;
        let conditions = line.rsplit_once(" (").map_or(Vec::new(), |(_, conditions)| {
            conditions.split(')').next().unwrap_or_default().split(" AND ").collect()
        });
        let by_unique_index = line.contains("INDEX sqlite_autoindex_");
        Some(Self { table, is_search, conditions, by_unique_index })
    }

    /// The column that must be equal to something, besides the row's id.
    fn key(&self) -> Option<&'a str> {
        self.conditions.iter().find_map(|condition| condition.strip_suffix("=?"))
    }

    /// One row at most for each value.
    fn is_unique(&self) -> bool {
        self.is_search && (self.key() == Some("rowid") || self.by_unique_index)
    }

    /// Between two values of what rollups are sorted by, which is their time.
    fn is_span(&self) -> bool {
        ["minute", "hour", "day"].iter().any(|time| {
            self.conditions.contains(&format!("{time}>?").as_str())
                && self.conditions.contains(&format!("{time}<?").as_str())
        })
    }

    fn answers(&self, column: &str) -> bool {
        self.conditions.iter().any(|condition| condition.trim_end_matches(['<', '>', '=', '?']) == column)
    }
}

/// A statement and what was bound to it, as diesel prints it.
struct Statement<'a> {
    sql: &'a str,
    binds: Vec<&'a str>,
}

impl<'a> Statement<'a> {
    fn parse(text: &'a str) -> Self {
        let (sql, binds) = text.split_once("-- binds: [").unwrap_or((text, ""));
        Self { sql, binds: binds.trim_end_matches(']').split(", ").collect() }
    }

    /// What stands between WHERE and the end, without the conditions of joins.
    fn conditions(&self) -> &'a str {
        self.sql.split_once(" WHERE ").map_or("", |(_, rest)| rest.split(" ORDER BY ").next().unwrap_or(rest))
    }

    /// The columns of a table that it has conditions on.
    fn columns_of(&self, table: &str) -> BTreeSet<&'a str> {
        let prefix = format!("`{table}`.`");
        self.conditions().split(prefix.as_str()).skip(1).filter_map(|rest| rest.split('`').next()).collect()
    }

    fn has_floor(&self, table: &str) -> bool {
        self.conditions().contains(&format!("`{table}`.`id` >= ?"))
    }

    /// What is bound to the placeholders after a text, as numbers.
    fn numbers_after(&self, text: &str) -> Vec<i64> {
        let Some(place) = self.sql.find(text) else { return Vec::new() };
        let end = place + text.len();
        let list = self.sql[end..].split(')').next().unwrap_or_default();
        let first = self.sql[..end].matches('?').count();
        // One after `=`, all up to the parenthesis after `IN (`.
        let count = if text.ends_with("IN (") { list.matches('?').count() } else { 1 };
        let binds = self.binds.iter().skip(first).take(count);
        binds.filter_map(|bind| bind.trim_start_matches("Some(").trim_end_matches(')').parse().ok()).collect()
    }

    /// What a column must be equal to, if those are numbers.
    fn wanted(&self, table: &str, column: &str) -> Vec<i64> {
        let one = self.numbers_after(&format!("`{table}`.`{column}` = "));
        if one.is_empty() { self.numbers_after(&format!("`{table}`.`{column}` IN (")) } else { one }
    }

    /// The rows that it may read, as a FROM clause each: those of the values of a key, up to the page's beginning.
    fn ranges(&self, table: &str, key: Option<&str>) -> Vec<String> {
        let below = self.numbers_after(&format!("`{table}`.`id` < "));
        let below = below.first().copied().unwrap_or(i64::MAX);
        match key {
            None => vec![format!("{table} WHERE id < {below}")],
            Some(key) => {
                let values = self.wanted(table, key);
                values.iter().map(|value| format!("{table} WHERE {key} = {value} AND id < {below}")).collect()
            }
        }
    }
}

/// Explains statements on a database.
pub(crate) struct Explainer {
    direct: Direct,
    /// Whether a table or a range of it has no more rows than a window.
    short: HashMap<String, bool>,
}

impl Explainer {
    pub(crate) fn new(direct: Direct) -> Self {
        Self { direct, short: HashMap::new() }
    }

    pub(crate) fn execute(&mut self, sql: &str) {
        self.direct.execute(sql);
    }

    /// `Err` says what is read without a bound.
    pub(crate) fn check(&mut self, text: &str) -> Result<(), String> {
        let statement = Statement::parse(text);
        let plan = self.direct.plan(statement.sql);
        let sorts = plan.iter().any(|line| line == "USE TEMP B-TREE FOR ORDER BY");
        let ends = statement.sql.contains(" LIMIT ") && !sorts;
        for access in plan.iter().filter_map(|line| Access::parse(line)) {
            if !self.is_bounded(&statement, &access, ends) {
                return Err(format!("{plan:?} of {text}"));
            }
        }
        Ok(())
    }

    /// `ends`: the statement ends when it has enough rows.
    fn is_bounded(&mut self, statement: &Statement<'_>, access: &Access<'_>, ends: bool) -> bool {
        let table = access.table;
        // What is read of a subquery was read of its tables, which have lines of their own.
        if statement.sql.contains(&format!(") AS {table} ")) {
            return true;
        }
        if access.is_unique() || self.is_short(table) {
            return true;
        }
        if !access.is_search {
            // As many as wanted from one end, whatever is looked for in those.
            let from_an_end = statement.sql.contains(&format!("FROM {table} ORDER BY "));
            return ends && (from_an_end || statement.conditions().is_empty());
        }
        let others =
            statement.columns_of(table).into_iter().any(|column| column != "id" && !access.answers(column));
        if statement.has_floor(table) || access.is_span() || (ends && !others) {
            return true;
        }
        // The rows end before a window does.
        let ranges = statement.ranges(table, access.key());
        !ranges.is_empty() && ranges.iter().all(|range| self.is_short(range))
    }

    fn is_short(&mut self, rows: &str) -> bool {
        if let Some(short) = self.short.get(rows) {
            return *short;
        }
        let short = self.count_to_a_window(rows) <= WINDOW;
        self.short.insert(rows.to_owned(), short);
        short
    }

    fn count_to_a_window(&mut self, rows: &str) -> usize {
        let query =
            format!("SELECT CAST(count(*) AS TEXT) AS name FROM (SELECT 1 FROM {rows} LIMIT {})", WINDOW + 1);
        self.direct.texts(&query)[0].parse().unwrap()
    }
}
