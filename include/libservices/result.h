// SPDX-License-Identifier: Apache-2.0
//
// `Result<T>`: what a file operation gives back, a value or the errno that POSIX names for it.
//
// Use it on the data path (every operation of a libservice and of `Filesystem`). On the control
// path (configuration, start, stop), where a person reads the failure, use `absl::Status`.
//
// Guarantees: no allocation, no exception; a `Result` of a trivially copyable T is itself
// trivially copyable, and `Result<void>` and `Result<size_t>` travel in registers.
#ifndef LIBSERVICES_RESULT_H_
#define LIBSERVICES_RESULT_H_

#include <cassert>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

namespace libservices {

// An error number of <errno.h>. `Errno{0}` means success and never stands in a failed Result.
struct Errno {
  int value = 0;

  friend constexpr bool operator==(Errno, Errno) = default;
};

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  // Implicit on purpose: `return value;` and `return Errno{ENOENT};` both read well.
  constexpr Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  constexpr Result(Errno error) : error_(error) {          // NOLINT(google-explicit-constructor)
    assert(error.value != 0);
  }

  constexpr bool ok() const { return error_.value == 0; }
  constexpr explicit operator bool() const { return ok(); }
  constexpr Errno error() const { return error_; }

  // REQUIRES: ok().
  constexpr T& value() & { return get(*this); }
  constexpr const T& value() const& { return get(*this); }
  constexpr T&& value() && { return std::move(get(*this)); }
  constexpr T& operator*() & { return get(*this); }
  constexpr const T& operator*() const& { return get(*this); }
  constexpr T&& operator*() && { return std::move(get(*this)); }
  constexpr T* operator->() { return &get(*this); }
  constexpr const T* operator->() const { return &get(*this); }

 private:
  static constexpr bool kPlain =
      std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>;

  template <class Self>
  static constexpr auto& get(Self& self) {
    assert(self.ok());
    if constexpr (kPlain) {
      return self.value_;
    } else {
      return *self.value_;
    }
  }

  std::conditional_t<kPlain, T, std::optional<T>> value_{};
  Errno error_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  constexpr Result() = default;
  constexpr Result(Errno error) : error_(error) {  // NOLINT(google-explicit-constructor)
    assert(error.value != 0);
  }

  constexpr bool ok() const { return error_.value == 0; }
  constexpr explicit operator bool() const { return ok(); }
  constexpr Errno error() const { return error_; }
  constexpr void value() const { assert(ok()); }

 private:
  Errno error_;
};

// The errno of the last failed system call, as a failed Result of any type.
inline Errno last_errno() { return Errno{errno == 0 ? EIO : errno}; }

}  // namespace libservices

#define LIBSERVICES_CONCATENATE_(a, b) a##b
#define LIBSERVICES_CONCATENATE(a, b) LIBSERVICES_CONCATENATE_(a, b)
#define LIBSERVICES_TRY_(result, declaration, ...)        \
  auto result = (__VA_ARGS__);                            \
  if (!result.ok()) [[unlikely]] return result.error();   \
  declaration = *std::move(result)

// LIBSERVICES_TRY(auto entry, stack.lookup(context, directory, name));
// Declares or assigns the value, or returns the error from the enclosing function.
#define LIBSERVICES_TRY(declaration, ...) \
  LIBSERVICES_TRY_(LIBSERVICES_CONCATENATE(libservices_result_, __LINE__), declaration, __VA_ARGS__)

// LIBSERVICES_CHECK_OK(stack.unlink(context, directory, name));
// Returns the error from the enclosing function, if there is one.
#define LIBSERVICES_CHECK_OK(...)                                  \
  do {                                                             \
    if (auto result_ = (__VA_ARGS__); !result_.ok()) [[unlikely]] { \
      return result_.error();                                      \
    }                                                              \
  } while (false)

#endif  // LIBSERVICES_RESULT_H_
