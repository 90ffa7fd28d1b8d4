/* Memory bounds: each case prints the kibibytes it is judged by.
 *
 *   bounds sleeper     one thread asleep for ever, two churn 1 GiB through: peak RSS
 *   bounds consumer    a thread that only frees, 2 GiB through it: peak RSS
 *   bounds threads     20,000 short threads: peak RSS
 *   bounds trim        300 MiB of small blocks freed, malloc_trim(0): RSS
 */
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KIB = 1024, BLOCK = 256 };

static long status_kib(const char *name) {
    char line[256];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, name, strlen(name))) kib = atol(line + strlen(name));
    fclose(status);
    return kib;
}

static void *sleep_for_ever(void *arg) {
    free(malloc(BLOCK));
    *(volatile int *)arg = 1;
    for (;;) pause();
    return arg;
}

static void *churn(void *arg) {
    static const size_t sizes[] = {24, 64, 200, 700, 3000, 12000};
    char *held[512] = {0};
    size_t bytes = 0;
    for (size_t i = 0; bytes < (size_t)512 * KIB * KIB; i++) {
        size_t size = sizes[i % 6];
        free(held[i % 512]);
        held[i % 512] = memset(malloc(size), 1, size);
        bytes += size;
    }
    for (int i = 0; i < 512; i++) free(held[i]);
    return arg;
}

static void sleeper(void) {
    pthread_t asleep, churners[2];
    volatile int ready = 0;
    pthread_create(&asleep, NULL, sleep_for_ever, (void *)&ready);
    while (!ready) usleep(1000);
    for (int i = 0; i < 2; i++) pthread_create(&churners[i], NULL, churn, NULL);
    for (int i = 0; i < 2; i++) pthread_join(churners[i], NULL);
}

enum { RING = 4096 };
static char *ring[RING];
static sem_t room, stock;
static const size_t handed = (size_t)2 * KIB * KIB * KIB / BLOCK;

static void *only_free(void *arg) {
    for (size_t i = 0; i < handed; i++) {
        sem_wait(&stock);
        free(ring[i % RING]);
        sem_post(&room);
    }
    return arg;
}

static void consumer(void) {
    pthread_t id;
    sem_init(&room, 0, RING);
    sem_init(&stock, 0, 0);
    pthread_create(&id, NULL, only_free, NULL);
    for (size_t i = 0; i < handed; i++) {
        sem_wait(&room);
        ring[i % RING] = memset(malloc(BLOCK), 1, BLOCK);
        sem_post(&stock);
    }
    pthread_join(id, NULL);
}

static void *briefly(void *arg) {
    void *blocks[64];
    for (int i = 0; i < 64; i++) blocks[i] = malloc(16 << i % 8);
    for (int i = 0; i < 64; i++) free(blocks[i]);
    return arg;
}

static void threads(void) {
    for (int i = 0; i < 20000 / 4; i++) {
        pthread_t ids[4];
        for (int j = 0; j < 4; j++) pthread_create(&ids[j], NULL, briefly, NULL);
        for (int j = 0; j < 4; j++) pthread_join(ids[j], NULL);
    }
}

static void trim(void) {
    size_t count = 0, bytes = 0, room = 4 * KIB * KIB;
    char **blocks = malloc(room * sizeof *blocks);
    while (bytes < (size_t)300 * KIB * KIB && count < room) {
        size_t size = 16 + count * 40 % 1000;
        blocks[count++] = memset(malloc(size), 1, size);
        bytes += size;
    }
    for (size_t i = 0; i < count; i++) free(blocks[i]);
    free(blocks);
    malloc_trim(0);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "sleeper")) sleeper();
    else if (!strcmp(what, "consumer")) consumer();
    else if (!strcmp(what, "threads")) threads();
    else if (!strcmp(what, "trim")) trim();
    else return 2;
    printf("%ld\n", status_kib(strcmp(what, "trim") ? "VmHWM:" : "VmRSS:"));
    fflush(stdout);
    _exit(0);
}
