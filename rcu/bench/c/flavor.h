/*
 * What the benchmark asks of one flavor of liburcu, written once and compiled once for each flavor.
 *
 * Included by qsbr.c, memb.c and bp.c after they have defined FLAVOR and included the flavor's
 * header with _LGPL_SOURCE, so that read_lock and read_unlock are inlined into the loops: the peer's
 * best setting. URCU_API_MAP makes rcu_* mean the flavor's own.
 */
#include <stdint.h>

#define PASTE_(flavor, what) rcu_bench_##flavor##_##what
#define PASTE(flavor, what) PASTE_(flavor, what)
#define FN(what) PASTE(FLAVOR, what)

void FN(pairs)(uint64_t count)
{
	while (count--) {
		rcu_read_lock();
		cmm_barrier();
		rcu_read_unlock();
	}
}

void FN(nested_pairs)(uint64_t count)
{
	rcu_read_lock();
	FN(pairs)(count);
	rcu_read_unlock();
}

/* As the loop in periods.rs: a section that reads `words` words, then an announcement. */
void FN(reader_loop)(const int *stop, const uint32_t *data, uint64_t words)
{
	while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		rcu_read_lock();
		for (uint64_t i = 0; i < words; i++)
			(void)*(const volatile uint32_t *)&data[i];
		rcu_read_unlock();
		rcu_quiescent_state();
	}
}

void FN(section)(void)
{
	rcu_read_lock();
	cmm_barrier();
	rcu_read_unlock();
	rcu_quiescent_state();
}

void FN(register)(void) { rcu_register_thread(); }
void FN(unregister)(void) { rcu_unregister_thread(); }
void FN(offline)(void) { rcu_thread_offline(); }
void FN(online)(void) { rcu_thread_online(); }
void FN(synchronize)(void) { synchronize_rcu(); }

#ifdef HAVE_POLL
int FN(has_poll)(void) { return 1; }

void FN(start_polls)(uint64_t count)
{
	while (count--)
		(void)start_poll_synchronize_rcu();
}

void FN(polls_of_finished)(uint64_t count)
{
	struct urcu_gp_poll_state state = start_poll_synchronize_rcu();
	rcu_thread_offline();
	while (!poll_state_synchronize_rcu(state))
		;
	rcu_thread_online();
	while (count--) {
		__asm__ volatile("" : "+m"(state));
		(void)poll_state_synchronize_rcu(state);
	}
}
#else
int FN(has_poll)(void) { return 0; }
void FN(start_polls)(uint64_t count) { (void)count; }
void FN(polls_of_finished)(uint64_t count) { (void)count; }
#endif
