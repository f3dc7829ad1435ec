/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_MESSAGE_H
#define FIRMWARE_INIT_MESSAGE_H

/*
 * What the init tells the host, in the words of orders.h. `error` is a negative errno, or 0 for
 * none; `name` is what `what` was about, or "".
 */
struct voice {
    int control; /* -1: there is no port yet */
    int log;     /* the kernel's; -1: there is none yet */
};

void voice_say(const struct voice *voice, const char *word);
void voice_say_number(const struct voice *voice, const char *word, long number);
void voice_say_failed(const struct voice *voice, int status, int error);

/* Something the command may not care about; `note` on the port. */
void voice_note(const struct voice *voice, int error, const char *what, const char *name);

/* Something only the kernel's log is told. */
void voice_log(const struct voice *voice, int error, const char *what, const char *name);

/* The end of the init, and of the machine. */
_Noreturn void voice_fail(const struct voice *voice, int error, const char *what, const char *name);

/* Nothing more will be said: gives the host its time to end the machine, or ends it. */
_Noreturn void voice_wait_for_end(void);

#endif
