"""Names that exported C must not take: those of C, C++, their libraries and the included headers.

C reserves more for its future, such as all that begins with "str", "mem" or "to" (C11, 7.31);
that would refuse "torque", so of these only what exists is listed.
"""

import re
from typing import Any

__all__ = ["check_name"]

KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class co_await
    co_return co_yield compl complex concept const const_cast consteval constexpr constinit continue
    decltype default delete do double dynamic_cast else enum explicit export extern false float for
    friend goto if imaginary inline int long mutable namespace new noexcept noreturn not not_eq
    nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
    return short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned using
    virtual void volatile while xor xor_eq I std linux unix i386 main
"""
MATH = """
    acos acosh acospi asin asinh asinpi atan atan2 atan2pi atanh atanpi canonicalize cbrt ceil
    compoundn copysign cos cosh cospi dadd ddiv dfma dmul drem dsqrt dsub erf erfc exp exp10 exp10m1
    exp2 exp2m1 expm1 fabs fadd fdim fdiv ffma finite floor fma fmax fmaximum fmaximum_mag
    fmaximum_mag_num fmaximum_num fmaxmag fmin fminimum fminimum_mag fminimum_mag_num fminimum_num
    fminmag fmod fmul frexp fromfp fromfpx fsqrt fsub gamma getpayload hypot ilogb infinity isinf
    isnan j0 j1 jn ldexp lgamma llogb llrint llround log log10 log10p1 log1p log2 log2p1 logb logp1
    lrint lround modf nan nearbyint nextafter nextdown nexttoward nextup pow pow10 pown powr
    remainder remquo rint rootn round roundeven rsqrt scalb scalbln scalbn setpayload setpayloadsig
    significand sin sincos sinh sinpi sqrt tan tanh tanpi tgamma totalorder totalordermag trunc
    ufromfp ufromfpx y0 y1 yn
    cabs cacos cacosh carg casin casinh catan catanh ccos ccosh cexp cimag clog cpow cproj creal
    csin csinh csqrt ctan ctanh conj
"""
"""Of <math.h> and <complex.h>, C23 and GNU's included; each also with f or l at its end."""
LIBRARY = """
    fpclassify isfinite isnormal issignaling issubnormal iszero iseqsig iscanonical signbit
    isgreater isgreaterequal isless islessequal islessgreater isunordered signgam matherr
    math_errhandling

    memccpy memchr memcmp memcpy memfrob memmem memmove mempcpy memrchr memset memset_explicit
    stpcpy stpncpy strcasecmp strcasestr strcat strchr strchrnul strcmp strcoll strcpy strcspn
    strdup strdupa strerror strfry strlcat strlcpy strlen strncasecmp strncat strncmp strncpy
    strndup strndupa strnlen strpbrk strrchr strsep strsignal strspn strstr strtok strverscmp
    strxfrm strtod strtof strtol strtold strtoll strtoul strtoull rawmemchr basename bcmp bcopy
    bzero ffs ffsl ffsll index rindex swab explicit_bzero offsetof unreachable

    abort abs aligned_alloc assert at_quick_exit atexit atof atoi atol atoll bsearch calloc div exit
    free getenv labs ldiv llabs lldiv malloc mblen mbstowcs mbtowc qsort quick_exit rand random
    realloc setenv srand srandom system wcstombs wctomb errno environ stdin stdout stderr
    clearerr fclose feof ferror fflush fgetc fgets fopen fprintf fputc fputs fread freopen fscanf
    fseek ftell fwrite getc getchar gets perror printf putc putchar puts remove rename rewind scanf
    setbuf setvbuf snprintf sprintf sscanf tmpfile tmpnam ungetc vfprintf vprintf vsnprintf vsprintf
    isalnum isalpha isblank iscntrl isdigit isgraph islower isprint ispunct isspace isupper isxdigit
    tolower toupper asctime clock ctime difftime gmtime localtime mktime strftime time longjmp
    setjmp raise signal
    accept access alarm bind brk chdir close connect dup exec fork getpid ioctl kill link listen
    lseek nanosleep open pause pipe poll read recv sbrk select send shutdown sleep socket stat
    sync truncate unlink usleep wait write
"""
MACROS = r"""
    \w+_t  NULL  EOF  BUFSIZ  RAND_MAX  INFINITY  NAN  SNAN[FL]?  HUGE|HUGE_VAL(F|L|_F\w+)?
    DOMAIN  SING  OVERFLOW  UNDERFLOW  PLOSS  TLOSS  X_TLOSS  MAXFLOAT  DECIMAL_DIG  MATH_[A-Z]+
    M_[A-Z0-9_]+l?  (FP|FE|FLT|DBL|LDBL|FLT\d+X?|DEC\d+)_[A-Z0-9_]+
    U?INT\w*_(C|MAX|MIN|WIDTH)  (SIZE|PTRDIFF|SIG_ATOMIC|WCHAR|WINT)_(MAX|MIN|WIDTH)
    BPCORE_\w+
"""
"""Patterns of types, and of the macros of <float.h>, <math.h>, <stddef.h> and <stdint.h>."""

_TAKEN = frozenset(
    [*KEYWORDS.split(), *LIBRARY.split()]
    + [f"{name}{suffix}" for name in MATH.split() for suffix in ("", "f", "l")]
    + [f"{name}_r" for name in ("lgamma", "lgammaf", "lgammal", "gamma", "strtok", "strerror")]
    + [f"{name}_l" for name in ("strcasecmp", "strcoll", "strerror", "strncasecmp", "strxfrm")]
)
_PATTERN = re.compile("|".join(MACROS.split()), re.ASCII)


def check_name(name: Any) -> None:
    """Refuse what is no C identifier, or one that is taken."""
    if not isinstance(name, str):
        raise TypeError(f"name must be text, got {name!r}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a C identifier that starts with a letter, got {name!r}")
    if name in _TAKEN or _PATTERN.fullmatch(name):
        raise ValueError(f"name must be free in C and C++, but {name!r} is taken")
