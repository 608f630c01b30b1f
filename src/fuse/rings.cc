// SPDX-License-Identifier: Apache-2.0
#include "src/fuse/rings.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <future>
#include <string_view>
#include <utility>

#include "src/fuse/ring.h"

namespace libservices::fuse {
namespace {

// Of the numbers of our own requests.
constexpr std::uint64_t kFirstFetch = std::uint64_t{1} << 62U;

// How many the kernel has queues for: those that could ever be there. 0: not known.
std::size_t possible_processors() {
  std::FILE* const file = std::fopen("/sys/devices/system/cpu/possible", "re");
  if (file == nullptr) return 0;
  std::array<char, 4096> text{};
  const std::size_t size = std::fread(text.data(), 1, text.size(), file);
  std::fclose(file);
  std::size_t count = 0;
  const char* at = text.data();
  const char* const end = at + size;
  while (at < end && *at != '\n') {  // 0-3,8
    std::size_t first = 0;
    auto read = std::from_chars(at, end, first);
    std::size_t last = first;
    if (read.ec == std::errc() && read.ptr < end && *read.ptr == '-') {
      read = std::from_chars(read.ptr + 1, end, last);
    }
    if (read.ec != std::errc() || last < first) return 0;
    count += last - first + 1;
    at = read.ptr + (read.ptr < end && *read.ptr == ',' ? 1 : 0);
  }
  return count;
}

bool stay_on(std::uint16_t processor) {
  cpu_set_t one;
  CPU_ZERO(&one);
  if (processor < CPU_SETSIZE) CPU_SET(processor, &one);
  return ::sched_setaffinity(0, sizeof one, &one) == 0;
}

}  // namespace

// What a thread begins with.
struct Rings::Begin {
  std::unique_ptr<Place> with_request;  // null: a new place. It stays here if the thread cannot
  bool is_answered = false;             // the answer is there already
  std::promise<bool> can;
};

Rings::Rings(Session& session, Calls& calls, int device, std::size_t most_threads,
             std::size_t processors)
    : session_(session),
      calls_(calls),
      device_(device),
      most_threads_(most_threads),
      queues_(processors) {
  cpu_set_t ours;
  CPU_ZERO(&ours);
  (void)::sched_getaffinity(0, sizeof ours, &ours);
  for (std::size_t i = 0; i < processors; ++i) {
    queues_[i].processor = static_cast<std::uint16_t>(i);
    queues_[i].is_ours = i < CPU_SETSIZE && CPU_ISSET(i, &ours) != 0;
  }
}

std::unique_ptr<Rings> Rings::make(Session& session, Calls& calls, int device,
                                   std::size_t most_threads) {
  const std::size_t processors = possible_processors();
  if (processors == 0 || processors > UINT16_MAX) return nullptr;
  std::unique_ptr<Rings> rings(new Rings(session, calls, device, most_threads, processors));
  // All that can fail does so now, while the kernel has not been told.
  const auto begin = std::make_shared<Begin>();
  std::future<bool> can = begin->can.get_future();
  Rings& its = *rings;
  if (!rings->threads_.begin([&its, begin] { its.serve_unused(*begin); }) || !can.get()) {
    return nullptr;
  }
  return rings;
}

void Rings::start() {
  std::lock_guard lock(mutex_);
  agreed_ = true;
  changed_.notify_all();
}

bool Rings::stop(std::chrono::milliseconds most) {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
    for (const auto& [unique, waiting] : waiting_) waiting->changed.notify_all();
  }
  return threads_.stop(most);
}

void Rings::serve_unused(Begin& begin) {
  std::vector<std::unique_ptr<Place>> places;
  Ring ring(device_, queues_.size());
  bool can = ring.ok();
  for (const Queue& queue : queues_) {
    can = can && places.emplace_back(std::make_unique<Place>(queue.processor))->ok();
  }
  begin.can.set_value(can);
  if (!can) return;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return agreed_ || ending_; });
    if (ending_) return;
  }
  for (const auto& place : places) {
    ring.add(*place);
    queues_[place->queue()].free.fetch_add(1, std::memory_order_relaxed);
  }
  while (!threads_.is_stopping()) {
    const Ring::Arrival arrival = ring.wait();
    if (arrival.gone) return;
    if (arrival.place == nullptr) continue;
    Queue& queue = queues_[arrival.place->queue()];
    std::unique_ptr<Place>& place = places[queue.processor];
    take_place(queue);
    if (begin_thread(queue, &place)) continue;
    if (run(queue, *place, nullptr) != Outcome::kAnswered) return;
    ring.commit(*place);
    queue.free.fetch_add(1, std::memory_order_relaxed);
  }
}

// With a place that has a request, or an answer.
bool Rings::begin_thread(Queue& queue, std::unique_ptr<Place>* with_request, bool is_answered) {
  // An answer is brought whatever the number.
  if (queue.threads.fetch_add(1, std::memory_order_relaxed) < most_threads_ || is_answered) {
    const auto begin = std::make_shared<Begin>();
    std::future<bool> can = begin->can.get_future();
    if (with_request != nullptr) begin->with_request = std::move(*with_request);
    begin->is_answered = is_answered;
    if (threads_.begin([this, &queue, begin] { serve(queue, *begin); }) &&
        (with_request == nullptr || can.get())) {
      return true;
    }
    if (with_request != nullptr) *with_request = std::move(begin->with_request);
  }
  queue.threads.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

// There shall always be a free one.
void Rings::take_place(Queue& queue) {
  if (queue.free.fetch_sub(1, std::memory_order_relaxed) <= 1) (void)begin_thread(queue, nullptr);
}

void Rings::serve(Queue& queue, Begin& begin) {
  Ring ring(device_, 1);
  const bool has_request = begin.with_request != nullptr;
  std::unique_ptr<Place> place;
  if (!has_request) place = std::make_unique<Place>(queue.processor);
  const bool can = ring.ok() && (has_request || place->ok());
  if (has_request && can) place = std::move(begin.with_request);
  begin.can.set_value(can);
  if (!can) {
    if (!has_request) queue.threads.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  if (queue.is_ours && !stay_on(queue.processor)) queue.is_ours = false;
  if (!has_request) {
    ring.add(*place);
    ring.submit();
    fetch_what_waits(queue);
  }
  // From here on the place may be given away under it.
  std::unique_ptr<Place> renewed;  // with the answer
  Calls::Call call(calls_, {.held_up = [this, &queue] { one_is_held_up(queue); },
                            .answer =
                                [&](const fuse_in_header& header, int error) {
                                  if (renewed == nullptr) {
                                    renewed = place->renew(header.unique, error);
                                  }
                                  return renewed != nullptr && begin_thread(queue, &renewed, true);
                                }});
  // False: the thread has no place any more, or all ends.
  const auto answers = [&] {
    const Outcome outcome = run(queue, *place, &call);
    if (call.was_held_up()) queue.held_up.fetch_sub(1, std::memory_order_relaxed);
    if (outcome == Outcome::kAllEnds || outcome == Outcome::kGivenUp) return false;
    if (renewed != nullptr) place = std::move(renewed);
    if (call.was_held_up()) queue.threads.fetch_add(1, std::memory_order_relaxed);
    ring.commit(*place);
    return true;
  };
  if (begin.is_answered) {
    ring.commit(*place);
  } else if (has_request && !answers()) {
    return;
  }
  while (!threads_.is_stopping()) {
    queue.free.fetch_add(1, std::memory_order_relaxed);
    Ring::Arrival arrival;
    do {
      arrival = ring.wait();
    } while (arrival.place == nullptr && !arrival.gone && !threads_.is_stopping());
    if (arrival.gone || arrival.place == nullptr) break;
    take_place(queue);
    if (!answers()) return;
  }
  queue.threads.fetch_sub(1, std::memory_order_relaxed);
}

// The kernel gives a request that has found no place to the next one that brings an answer, never
// to a new one; those whose requests wait for locks bring none. So where some do, the kernel is
// made to send a request of this thread's processor, whose answer fetches whatever has been
// waiting.
void Rings::fetch_what_waits(Queue& queue) {
  struct {
    fuse_out_header header;
    fuse_notify_retrieve_out content;
  } ask{};
  ask.header = {sizeof ask, FUSE_NOTIFY_RETRIEVE, 0};
  {
    std::lock_guard lock(mutex_);
    const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const auto& one) { return one.second->queue == &queue; });
    const bool any_held_up = queue.held_up.load(std::memory_order_relaxed) != 0;
    if (found == waiting_.end() && !any_held_up) return;
    // No bytes of it: it need only be there.
    ask.content.nodeid = found != waiting_.end() ? found->second->object : FUSE_ROOT_ID;
    // Even, as the kernel's own, and beyond all of those.
    ask.content.notify_unique = kFirstFetch + 2 * fetches_++;
  }
  if (::sched_getcpu() != queue.processor) queue.is_ours = false;  // we have been moved
  (void)!::write(device_, &ask, sizeof ask);
}

// Another thread may be needed: there shall be a free place.
void Rings::one_is_held_up(Queue& queue) {
  queue.held_up.fetch_add(1, std::memory_order_relaxed);
  queue.threads.fetch_sub(1, std::memory_order_relaxed);
  if (queue.free.load(std::memory_order_relaxed) <= 0 &&
      queue.held_up.load(std::memory_order_relaxed) < kMostHeldUp) {
    (void)begin_thread(queue, nullptr);
  }
}

Rings::Outcome Rings::run(Queue& queue, Place& place, Calls::Call* call) {
  Message message;
  Reply reply;
  const Result<void> decoded = place.decode(message);
  const std::uint64_t unique = message.header.unique;
  if (message.header.opcode == FUSE_NOTIFY_REPLY) {
    // Ours: to be answered, no more.
  } else if (!decoded.ok()) {
    reply.error = decoded.error().value;
  } else if (message.header.opcode == FUSE_SETLKW) {
    if (!answer_lock(queue, message, place, reply)) return Outcome::kAllEnds;
  } else if (calls_.are_most_given_up() && Calls::may_refuse(message.header.opcode)) {
    reply.error = ETIMEDOUT;
  } else {
    if (call != nullptr) call->begin(message.header);
    session_.run(message, place.payload(), reply);
    Session::deliver_notices();
    if (call != nullptr && !call->claim()) {
      session_.undo(reply);
      Session::deliver_notices();
      if (call->end()) return Outcome::kGivenUp;
      reply = {};
      reply.error = ETIMEDOUT;
    }
  }
  Session::deliver_notices();
  place.put(unique, reply);
  return Outcome::kAnswered;
}

bool Rings::answer_lock(Queue& queue, Message& message, Place& place, Reply& reply) {
  Waiting waiting{&queue, message.header.nodeid};
  const std::uint64_t unique = message.header.unique;
  {
    std::lock_guard lock(mutex_);
    // Without another thread there who holds the lock could never give it back.
    const bool may_wait = waiting_.size() < kMostWaiting && queue.is_ours &&
                          queue.threads.load(std::memory_order_relaxed) > 1;
    if (may_wait) {
      waiting_.emplace(unique, &waiting);
    } else {
      message.header.opcode = FUSE_SETLK;
      message.form = form_of(FUSE_SETLK);
    }
  }
  session_.run(message, place.payload(), reply);
  if (message.header.opcode == FUSE_SETLK) {
    if (reply.error == EAGAIN) reply.error = ENOLCK;
    return true;
  }
  if (reply.none) {
    queue.threads.fetch_sub(1, std::memory_order_relaxed);
    fetch_what_waits(queue);
  }
  std::unique_lock lock(mutex_);
  if (reply.none) {
    waiting.changed.wait(lock, [&] { return waiting.answered || ending_; });
    queue.threads.fetch_add(1, std::memory_order_relaxed);
    reply.error = waiting.error;
  }
  waiting_.erase(unique);
  return !reply.none || waiting.answered;
}

bool Rings::answer(std::uint64_t unique, int error) {
  std::lock_guard lock(mutex_);
  const auto found = waiting_.find(unique);
  if (found == waiting_.end()) return false;
  found->second->answered = true;
  found->second->error = error;
  found->second->changed.notify_all();
  return true;
}

}  // namespace libservices::fuse
