/* Filters on system calls, for every thread of the process. */
#ifndef FILTER_H
#define FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static inline UNUSED void install(struct sock_filter *code, unsigned short length) {
    struct sock_fprog program = {length, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

#define LOAD_NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define IS(number, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, then, otherwise)
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, what)

/* Makes one call fail with `error`, or, for 0, succeed and do nothing. */
static inline UNUSED void answer_call(unsigned number, unsigned error) {
    struct sock_filter code[] = {
        LOAD_NUMBER, IS(number, 0, 1), ANSWER(SECCOMP_RET_ERRNO | error), ANSWER(SECCOMP_RET_ALLOW)};
    install(code, sizeof code / sizeof *code);
}

#endif
