// Boost.Interprocess message_queue, as C functions.
#include <boost/interprocess/ipc/message_queue.hpp>
#include <cstdio>

using namespace boost::interprocess;

extern "C" {
// A queue of that name, made or opened; null when that fails.
void *peers_boost_open(const char *name, size_t messages, size_t size) {
    try {
        return new message_queue(open_or_create, name, messages, size);
    } catch (const interprocess_exception &) {
        return nullptr;
    }
}

void peers_boost_close(void *queue) { delete static_cast<message_queue *>(queue); }

void peers_boost_remove(const char *name) { message_queue::remove(name); }

// 1: sent, 0: full, -1: an error.
int peers_boost_send(void *queue, const void *bytes, size_t size, int wait) {
    try {
        auto *q = static_cast<message_queue *>(queue);
        if (wait) {
            q->send(bytes, size, 0);
            return 1;
        }
        return q->try_send(bytes, size, 0);
    } catch (const interprocess_exception &) {
        return -1;
    }
}

// Bytes received, -2: empty, -1: an error.
long peers_boost_recv(void *queue, void *bytes, size_t size, int wait) {
    try {
        auto *q = static_cast<message_queue *>(queue);
        message_queue::size_type got = 0;
        unsigned int priority = 0;
        if (wait) {
            q->receive(bytes, size, got, priority);
            return static_cast<long>(got);
        }
        return q->try_receive(bytes, size, got, priority) ? static_cast<long>(got) : -2;
    } catch (const interprocess_exception &) {
        return -1;
    }
}
}
