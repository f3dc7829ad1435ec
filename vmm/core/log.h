/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_LOG_H
#define VMM_CORE_LOG_H

#include <stdbool.h>

/*
 * Each call prints one line on stderr, with the prefix "minivmm: ". Any thread. If stderr is
 * blocked, the line is dropped after half a second.
 */
enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level); /* before the first thread; the default is WARN */
const char *log_level_name(void);         /* of that level: "warn" */
void log_print(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_result(...) log_print(LOG_LEVEL_ERROR, __VA_ARGS__) /* output the user asked for */
#define log_warn(...)   log_print(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)   log_print(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)  log_print(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * A rate-limited warning about something the guest did: only the first ten are printed. `*count`
 * starts at 0 and belongs to the caller, who keeps it across resets.
 */
void log_guest(unsigned *count, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints "fmt: strerror(error)" and returns -error: `return log_error(errno, "open %s", path);` */
int log_error(int error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same without strerror(), for messages that already say what is wrong. */
int log_refuse(int error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * While `on`, log_error() and log_refuse() print only at LOG_LEVEL_INFO, and keep no reason: for a
 * caller that tries one way after the other. Of all threads.
 */
void log_expect_errors(bool on);

/*
 * From now on copies the last message of log_error() or log_refuse() to `text`, without the
 * program's name, and prints it only if `print`. For a caller that reports failures to another
 * program. NULL: stops that.
 */
#define LOG_REASON_SIZE 200
void log_keep_reason(char text[LOG_REASON_SIZE], bool print);

#endif
