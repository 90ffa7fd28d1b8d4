/*
 * What the harness asks of one flavor of liburcu, written once and compiled once for each flavor into a
 * shared object of its own, which is loaded only in processes that run that scheme: liburcu's constructors
 * register the process for membarrier, and that must not happen where another engine is measured alone.
 *
 * Included by qsbr.c, memb.c and bp.c behind the flavor's header, which they include with
 * _LGPL_SOURCE so that read_lock and read_unlock are inlined: the peer's best setting.
 */
#include <urcu/call-rcu.h>

#include "loops.h"

void shim_register(void) { rcu_register_thread(); }
void shim_unregister(void) { rcu_unregister_thread(); }
void shim_lock(void) { rcu_read_lock(); }
void shim_unlock(void) { rcu_read_unlock(); }
void shim_quiescent(void) { rcu_quiescent_state(); }
void shim_offline(void) { rcu_thread_offline(); }
void shim_online(void) { rcu_thread_online(); }

void shim_call(void *head, void (*callback)(void *))
{
	call_rcu(head, (void (*)(struct rcu_head *))callback);
}

void shim_barrier(void) { rcu_barrier(); }

void shim_defer_register(void) { rcu_defer_register_thread(); }
void shim_defer_unregister(void) { rcu_defer_unregister_thread(); }
void shim_defer(void *block, void (*callback)(void *)) { defer_rcu(callback, block); }
void shim_defer_barrier(void) { rcu_defer_barrier(); }
