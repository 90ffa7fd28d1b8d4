//! A handler between two steps of the fast path, against two passes.

use super::*;

fn handler_at(point: Point, domain: &'static Domain) {
    let (block, reader) = (Block::new(), explicit(domain));
    let cell = reader.cell();
    race(domain, block, &[Demand::Expedite; 2], move || {
        thread::interrupt(point, move || {
            // SAFETY: a handler of the thread that owns the cell.
            let handlers = unsafe { Reader::borrow_cell(cell) };
            visit(&handlers, block);
        });
        visit(&reader, block);
        visit(&reader, block);
        std::mem::forget(reader);
    });
}

#[test]
fn a_handler_between_two_steps() {
    for point in [Point::Locking, Point::Unlocking] {
        explore_up_to(2, "handler/turn/snapshot", move || handler_at(point, domain()));
    }
}

#[test]
fn a_handler_between_two_steps_fenced() {
    for point in [Point::Locking, Point::Unlocking, Point::Counting] {
        explore_up_to(2, "handler/turn/snapshot, fenced", move || handler_at(point, fenced_domain()));
    }
}
