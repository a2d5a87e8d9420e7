//! Graph: device → file of the host → where a container has it, as a picture (SVG 1.1). Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use cdi_specs::{ContainerEdits, Spec};

use super::page::{Show, escape};

/// Geometry, in pixels.
const ROW: usize = 20;
const TOP: usize = 34;
/// Where each column's text starts, and where the lines between the columns begin and end.
const COLUMNS: [usize; 3] = [10, 330, 790];
const LINES: [(usize, usize); 2] = [(300, 322), (752, 782)];
const WIDTH: usize = 1240;
/// Characters that fit into each column.
const FITS: [usize; 3] = [42, 62, 62];

/// More than anybody looks at.
const MOST_DEVICES: usize = 500;

/// A line between two columns, by their rows.
type Line = (usize, usize);

/// What stands in a column.
#[derive(Default)]
struct Column {
    /// Text, and the middle of its place, in half rows.
    cells: Vec<(String, usize)>,
    index: BTreeMap<String, usize>,
}

impl Column {
    fn add(&mut self, text: &str) -> usize {
        if let Some(at) = self.index.get(text) {
            return *at;
        }
        self.cells.push((text.to_owned(), 0));
        self.index.insert(text.to_owned(), self.cells.len() - 1);
        self.cells.len() - 1
    }

    /// Puts each cell beside the middle of what it leads to, and none over another.
    fn place(&mut self, lines: &[Line], next: &Column) {
        let mut ends: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for (from, to) in lines {
            let Some((_, end)) = next.cells.get(*to) else { continue };
            let (first, last) = ends.entry(*from).or_insert((*end, *end));
            (*first, *last) = ((*first).min(*end), (*last).max(*end));
        }
        let mut free = 1;
        for (at, (_, place)) in self.cells.iter_mut().enumerate() {
            let (first, last) = ends.get(&at).copied().unwrap_or((free, free));
            *place = ((first + last) / 2).max(free);
            free = *place + 2;
        }
    }

    fn place_in_order(&mut self) {
        for (at, (_, place)) in self.cells.iter_mut().enumerate() {
            *place = 2 * at + 1;
        }
    }
}

/// The picture of a spec, with its names as they are shown.
pub fn svg(spec: &Spec, show: &mut Show<'_>) -> String {
    let mut columns = [Column::default(), Column::default(), Column::default()];
    let mut lines: [Vec<Line>; 2] = Default::default();
    let common = ("every container with one of them".to_owned(), &spec.container_edits);
    for (name, edits) in devices(spec).into_iter().chain([common]) {
        let [devices, hosts, containers] = &mut columns;
        for (host, container) in paths(edits) {
            let (device, host) = (devices.add(&show(&name)), hosts.add(&show(&host)));
            let container = containers.add(&show(&container));
            let [first, second] = &mut lines;
            first.push((device, host));
            second.push((host, container));
        }
    }
    let [devices, hosts, containers] = &mut columns;
    containers.place_in_order();
    hosts.place(&lines[1], containers);
    devices.place(&lines[0], hosts);
    draw(&columns, &mut lines)
}

/// The first devices of the spec; those with the same edits are one under several names.
fn devices(spec: &Spec) -> Vec<(String, &ContainerEdits)> {
    let mut devices: Vec<(String, &ContainerEdits)> = Vec::new();
    for device in spec.devices.iter().take(MOST_DEVICES) {
        match devices.iter_mut().find(|(_, edits)| **edits == device.container_edits) {
            Some((names, _)) => _ = write!(names, ", {}", device.name),
            None => devices.push((format!("{}={}", spec.kind, device.name), &device.container_edits)),
        }
    }
    devices
}

/// What edits take from the host, and where the container has it.
fn paths(edits: &ContainerEdits) -> Vec<(String, String)> {
    let nodes = edits
        .device_nodes
        .iter()
        .map(|node| (node.host_path.clone().unwrap_or_else(|| node.path.clone()), node.path.clone()));
    let mounts = edits.mounts.iter().map(|mount| (mount.host_path.clone(), mount.container_path.clone()));
    let hooks = edits.hooks.iter().map(|hook| (hook.path.clone(), format!("runs at {}", hook.hook_name)));
    nodes.chain(mounts).chain(hooks).collect()
}

fn draw(columns: &[Column; 3], lines: &mut [Vec<Line>; 2]) -> String {
    let end = columns.iter().flat_map(|column| &column.cells).map(|(_, place)| *place).max().unwrap_or_default();
    let height = TOP + (end + 2) * ROW / 2;
    let mut out = format!(
        "<svg role=\"img\" aria-label=\"devices, files of the host, paths in the container\" \
         viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n"
    );
    for (x, head) in COLUMNS.into_iter().zip(["device", "on the host", "in the container"]) {
        let _ = writeln!(out, "<text class=\"head\" x=\"{x}\" y=\"16\">{head}</text>");
    }
    for (between, lines) in lines.iter_mut().enumerate() {
        lines.sort_unstable();
        lines.dedup();
        let (Some((from, to)), Some((left, right))) =
            (LINES.get(between), columns.get(between).zip(columns.get(between + 1)))
        else {
            continue;
        };
        for (start, end) in lines {
            let place = |column: &Column, at: usize| column.cells.get(at).map_or(0, |(_, place)| y(*place));
            let (start, end) = (place(left, *start), place(right, *end));
            let middle = (from + to) / 2;
            let _ = writeln!(out, "<path d=\"M{from} {start}C{middle} {start} {middle} {end} {to} {end}\"/>");
        }
    }
    for (at, ((column, x), fits)) in columns.iter().zip(COLUMNS).zip(FITS).enumerate() {
        for (text, place) in &column.cells {
            let short = if at == 0 { started(text, fits) } else { shortened(text, fits) };
            let (whole, short) = (escape(text), escape(&short));
            let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\">{short}<title>{whole}</title></text>", y(*place) + 4);
        }
    }
    out + "</svg>\n"
}

fn y(place: usize) -> usize {
    TOP + place * ROW / 2
}

/// The first name of a device is its shortest.
fn started(text: &str, fits: usize) -> String {
    let short: String = text.chars().take(fits - 1).collect();
    if short.len() + 1 < text.len() { short + "…" } else { text.to_owned() }
}

/// The end of a path says more than its start.
fn shortened(text: &str, fits: usize) -> String {
    let length = text.chars().count();
    if length <= fits {
        return text.to_owned();
    }
    format!("…{}", text.chars().skip(length - fits + 1).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edit_is_in_the_picture() {
        let text = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n\
                    - {name: '0', containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}}\n\
                    - {name: GPU-1, containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}}\n\
                    containerEdits:\n  mounts: [{hostPath: '/a<b', containerPath: /c}, {hostPath: '/a<b', containerPath: /d}]\n  \
                    hooks: [{hookName: createContainer, path: /usr/bin/cdi-hook}]\n";
        let svg = svg(&cdi_specs::parse_yaml(text).unwrap(), &mut str::to_owned);
        for part in ["nvidia.com/gpu=0, GPU-1", "/dev/nvidia0", "/a&lt;b", ">/c<", ">/d<", "runs at createContainer"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!((svg.matches("<path").count(), svg.matches("<text").count()), (3 + 4, 3 + 2 + 3 + 4));
    }
}
