// flags: -shared -fPIC
/* A malloc of its own with jemalloc's names, as a program may be linked with: every block lies behind a
 * mark that tells whose it is, and a block without the mark ends the process. Never freed, never reused. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { ROOM = 64 << 20, MARK = 0x0a110c };

struct head {
    uint64_t mark, size;
};

static char room[ROOM] __attribute__((aligned(4096)));
static size_t used;

static struct head *head_of(const void *block) {
    struct head *head = (struct head *)(uintptr_t)block - 1;
    if ((char *)head < room || (char *)head >= room + ROOM || head->mark != MARK) {
        static const char line[] = "other allocator: not my block\n";
        write(2, line, sizeof line - 1);
        _exit(3);
    }
    return head;
}

static void *get(size_t size, size_t align) {
    align = align < 16 ? 16 : align;
    size_t at = __atomic_fetch_add(&used, (size + 2 * align + sizeof(struct head)) / 16 * 16 + 16,
        __ATOMIC_RELAXED);
    if (size > ROOM || at + size + 2 * align + sizeof(struct head) > ROOM) {
        return NULL;
    }
    char *block = (char *)(((uintptr_t)room + at + sizeof(struct head) + align - 1) / align * align);
    ((struct head *)block)[-1] = (struct head){MARK, size};
    return block;
}

void *malloc(size_t size) { return get(size, 16); }
void *calloc(size_t count, size_t size) { return get(count * size, 16); }
void free(void *block) { (void)(block == NULL ? NULL : head_of(block)); }
void *realloc(void *block, size_t size) {
    void *new = get(size, 16);
    if (block != NULL && new != NULL) {
        size_t held = head_of(block)->size;
        memcpy(new, block, held < size ? held : size);
    }
    return new;
}

void *mallocx(size_t size, int flags) { return get(size, (size_t)1 << (flags & 63)); }
void *rallocx(void *block, size_t size, int flags) { return (void)flags, realloc(block, size); }
size_t xallocx(void *block, size_t size, size_t extra, int flags) {
    return (void)size, (void)extra, (void)flags, head_of(block)->size;
}
size_t sallocx(const void *block, int flags) { return (void)flags, head_of(block)->size; }
void dallocx(void *block, int flags) { return (void)flags, (void)head_of(block); }
void sdallocx(void *block, size_t size, int flags) { return (void)size, (void)flags, (void)head_of(block); }
size_t nallocx(size_t size, int flags) { return (void)flags, size; }

/* C++'s operators, by the names they have for the linker. */
void *_Znwm(size_t size) { return get(size, 16); }
void *_Znam(size_t size) { return get(size, 16); }
void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag) { return (void)tag, get(size, 16); }
void *_ZnamRKSt9nothrow_t(size_t size, const void *tag) { return (void)tag, get(size, 16); }
void *_ZnwmSt11align_val_t(size_t size, size_t align) { return get(size, align); }
void *_ZnamSt11align_val_t(size_t size, size_t align) { return get(size, align); }
void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const void *tag)
{
    return (void)tag, get(size, align);
}
void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const void *tag)
{
    return (void)tag, get(size, align);
}
void _ZdlPv(void *block) { free(block); }
void _ZdaPv(void *block) { free(block); }
void _ZdlPvm(void *block, size_t size) { return (void)size, free(block); }
void _ZdaPvm(void *block, size_t size) { return (void)size, free(block); }
void _ZdlPvSt11align_val_t(void *block, size_t align) { return (void)align, free(block); }
void _ZdaPvSt11align_val_t(void *block, size_t align) { return (void)align, free(block); }
void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t align)
{
    return (void)size, (void)align, free(block);
}
void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t align)
{
    return (void)size, (void)align, free(block);
}
