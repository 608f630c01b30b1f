// SPDX-License-Identifier: Apache-2.0
//
// From what is done to an object to the places where its event is told. An object that nobody
// watches, in a directory that nobody watches, costs a look at one byte.
#ifndef LIBSERVICES_INTERNAL_EVENTS_H_
#define LIBSERVICES_INTERNAL_EVENTS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "libservices/event_listener.h"

namespace libservices::internal {

// In Inode::watched.
enum Watched : std::uint8_t {
  kWatchedItself = 1,
  kWatchedEntry = 2,  // it was last found in a directory that was watched: Inode::parent is set
};

template <class Object>
class Events {
 public:
  // `places` guards parent, name and removed of every object.
  explicit Events(std::shared_mutex& places) : places_(places) {}

  // Before any call.
  void set_listener(EventListener* listener) { listener_ = listener; }
  bool has_listener() const { return listener_ != nullptr; }

  static std::uint8_t watched(const Object& object) {
    return object.watched.load(std::memory_order_acquire);
  }
  static bool is_watched(const Object& object) { return (watched(object) & kWatchedItself) != 0; }

  // To the object and, as its entry, to the directory that it is in.
  void tell(FileEvent event, const Object& object) const {
    if (watched(object) == 0) return;
    const Places places(*this, object);
    for (const auto& place : places.list()) listener_->happened(event, place);
  }
  void tell_itself(FileEvent event, const Object& object) const {
    if (is_watched(object)) listener_->happened(event, {object.id, {}, object.is_directory()});
  }
  void tell_entry(FileEvent event, const Object& directory, std::string_view name,
                  bool is_directory) const {
    if (is_watched(directory)) listener_->happened(event, {directory.id, name, is_directory});
  }
  void tell_opened(const OpenFile& file, const Object& object) const {
    if (watched(object) == 0) return;
    const Places places(*this, object);
    for (const auto& place : places.list()) listener_->opened(file, place);
  }
  void tell_closed(const OpenFile& file, const Object& object) const {
    if (watched(object) == 0) return;
    const Places places(*this, object);
    listener_->closed(file, places.list());
  }
  void tell_renamed(const Object& from, std::string_view from_name, const Object& to,
                    std::string_view to_name, bool is_directory, bool other_is_directory,
                    bool exchange) const {
    const EventListener::Place old_place{from.id, from_name, is_directory, other_is_directory};
    const EventListener::Place new_place{to.id, to_name, is_directory, other_is_directory};
    const bool left = is_watched(from);
    const bool came = is_watched(to);
    if (!left && !came) return;
    listener_->renamed(left ? &old_place : nullptr, came ? &new_place : nullptr, exchange);
  }
  void tell_moved(const Object& object) const {
    if (is_watched(object)) listener_->moved(object.id);
  }
  void tell_removed(const Object& object) const {
    if (is_watched(object)) listener_->removed(object.id);
  }

 private:
  // The directory first, as Linux tells it.
  class Places {
   public:
    Places(const Events& events, const Object& object) {
      const std::uint8_t bits = watched(object);
      if ((bits & kWatchedEntry) != 0) {
        std::shared_lock lock(events.places_);
        if (!object.removed) {
          parent_ = object.parent;
          name_ = object.name;
        }
      }
      if (parent_ != nullptr && is_watched(*parent_)) {
        places_[count_++] = {parent_->id, name_, object.is_directory()};
      }
      if ((bits & kWatchedItself) != 0) {
        places_[count_++] = {object.id, {}, object.is_directory()};
      }
    }
    Places(const Places&) = delete;
    Places& operator=(const Places&) = delete;
    std::span<const EventListener::Place> list() const { return {places_.data(), count_}; }

   private:
    std::shared_ptr<Object> parent_;
    std::string name_;
    std::array<EventListener::Place, 2> places_;
    std::size_t count_ = 0;
  };

  std::shared_mutex& places_;
  EventListener* listener_ = nullptr;
};

}  // namespace libservices::internal

#endif  // LIBSERVICES_INTERNAL_EVENTS_H_
