// SPDX-License-Identifier: Apache-2.0
//
// Who hears what happens to watched objects, as inotify(7) tells it.
//
// It is for events that programs ask for, one for each call. Who only has to know that what it has
// kept is old uses ChangeListener, which hears of every object and of less.
#ifndef LIBSERVICES_EVENT_LISTENER_H_
#define LIBSERVICES_EVENT_LISTENER_H_

#include <cstdint>
#include <span>
#include <string_view>

namespace libservices {

class OpenFile;

enum class FileEvent : std::uint8_t { kAccess, kModify, kAttributes, kCreate, kDelete };

// Hears of what is done through the filesystem to objects that `watch` has named, and to the
// entries of such directories. Nobody hears of what is done through a mapping or a passthrough.
// SOURCE: inotify(7), and fsnotify of Linux 6 for which call gives which event.
// WARNING: called by the thread that does it, with locks held: a call of the filesystem would wait
// for ever.
class EventListener {
 public:
  // Where it is told: of a watched object itself, or of the entry `name` of a watched directory.
  struct Place {
    std::uint64_t object = 0;         // the watched one's, as Reference has it
    std::string_view name;            // empty: itself
    bool is_directory = false;        // what it happens to
    bool other_is_directory = false;  // and, in an exchange, what comes in its place
  };

  virtual void happened(FileEvent event, const Place& place) = 0;
  virtual void opened(const OpenFile& file, const Place& place) = 0;
  // The last use of an open file ends. `places`: as far as they are watched now.
  virtual void closed(const OpenFile& file, std::span<const Place> places) = 0;
  // An entry moved from one directory to another; null: to or from one that is not watched.
  virtual void renamed(const Place* from, const Place* to, bool exchange) = 0;
  // A watched object itself has another name; or its last one is gone, and no event follows but
  // those of files that are open.
  virtual void moved(std::uint64_t object) = 0;
  virtual void removed(std::uint64_t object) = 0;

 protected:
  ~EventListener() = default;
};

}  // namespace libservices

#endif  // LIBSERVICES_EVENT_LISTENER_H_
