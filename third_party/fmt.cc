// SPDX-License-Identifier: Apache-2.0
//
// fmt as an archive, which Debian does not have: its functions that are no templates, and the
// instantiations that its headers leave to the library and that this project needs. As a shared
// object it would bring libstdc++.so with it, which takes longer to load than `run` takes otherwise.
#include <fmt/format-inl.h>

template auto fmt::detail::thousands_sep_impl<char>(fmt::detail::locale_ref)
    -> fmt::detail::thousands_sep_result<char>;
template char fmt::detail::decimal_point_impl<char>(fmt::detail::locale_ref);
template void fmt::detail::buffer<char>::append<char>(const char*, const char*);
template void fmt::detail::vformat_to<char>(fmt::detail::buffer<char>&, fmt::string_view,
                                            fmt::format_args, fmt::detail::locale_ref);
