//! Tests of the zone on zones of their own.
