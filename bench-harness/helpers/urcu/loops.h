/*
 * The loops that measure a flavor: its read side is inlined into them. Included by flavor.h.
 */
#include <stdint.h>

#if defined(__has_include)
#if __has_include(<urcu/urcu-poll.h>)
#define HAVE_POLL
#endif
#endif

/* All flavors are preloaded into one process: what is called here is this object's own. */
static inline void pairs(uint64_t count)
{
	while (count--) {
		rcu_read_lock();
		cmm_barrier();
		rcu_read_unlock();
	}
}

void shim_pairs(uint64_t count) { pairs(count); }

void shim_nested_pairs(uint64_t count)
{
	rcu_read_lock();
	pairs(count);
	rcu_read_unlock();
}

/* As the loop in periods.rs: a section that reads `words` words, then an announcement. */
void shim_reader_loop(const int *stop, const uint32_t *data, uint64_t words)
{
	while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		rcu_read_lock();
		for (uint64_t i = 0; i < words; i++)
			(void)*(const volatile uint32_t *)&data[i];
		rcu_read_unlock();
		rcu_quiescent_state();
	}
}

void shim_section(void)
{
	rcu_read_lock();
	cmm_barrier();
	rcu_read_unlock();
	rcu_quiescent_state();
}

void shim_synchronize(void) { synchronize_rcu(); }

#ifdef HAVE_POLL
int shim_has_poll(void) { return 1; }

void shim_start_polls(uint64_t count)
{
	while (count--)
		(void)start_poll_synchronize_rcu();
}

void shim_polls_of_finished(uint64_t count)
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
int shim_has_poll(void) { return 0; }
void shim_start_polls(uint64_t count) { (void)count; }
void shim_polls_of_finished(uint64_t count) { (void)count; }
#endif
