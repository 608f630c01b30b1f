// SPDX-License-Identifier: Apache-2.0
//
// The C++ library's wide streams over files of the working directory.
#include <fstream>
#include <iostream>
#include <locale>
#include <string>

int main() {
  const std::locale utf8("C.UTF-8");
  {
    std::wofstream out;
    out.imbue(utf8);
    out.open("words");
    for (int i = 0; i < 5000; ++i) out << L"w\u00f6rter " << i << L' ' << L'\u20ac' << L'\n';
    std::cout << out.tellp() << ' ' << out.good() << '\n';
  }
  std::wifstream in;
  in.imbue(utf8);
  in.open("words");
  int right = 0;
  std::wstring word;
  std::wstring sign;
  for (int number = 0; in >> word >> number >> sign;) {
    right += word == L"w\u00f6rter" && number == right && sign == L"\u20ac" ? 1 : 0;
  }
  std::cout << right << ' ' << in.eof() << '\n';
  in.clear();
  in.seekg(0);
  std::getline(in, word);
  std::cout << word.size() << ' ' << in.tellg() << '\n';

  std::wfstream both("both", std::ios::in | std::ios::out | std::ios::trunc);
  both << L"plain";
  both.seekg(2);
  std::cout << static_cast<int>(both.get()) << ' ' << std::ifstream("both").rdbuf() << '\n';
  return 0;
}
