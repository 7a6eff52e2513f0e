/* Codes become exceptions: the classes are Python's (../gecko/errors.py), registered here by code when the package is imported. */
#include <string.h>

#include "gecko_py.h"

static PyObject *classes_by_code;
PyObject *gecko_error_moved, *gecko_error_closed;

/* Borrowed from the dict, which stays. */
static bool find_class(int code, PyObject **class) {
  PyObject *number = PyLong_FromLong(code);
  if (number == NULL) return false;
  *class = PyDict_GetItemWithError(classes_by_code, number);
  Py_DECREF(number);
  if (*class == NULL && !PyErr_Occurred()) PyErr_Format(PyExc_KeyError, "no class for %d", code);
  return *class != NULL;
}

PyObject *errors_set_classes(PyObject *module, PyObject *classes) {
  (void)module;
  if (!PyDict_Check(classes)) return PyErr_Format(PyExc_TypeError, "a dict of classes by code is needed");
  Py_INCREF(classes);
  Py_XDECREF(classes_by_code);
  classes_by_code = classes;
  if (!find_class(GECKO_MOVED, &gecko_error_moved) || !find_class(GECKO_CLOSED, &gecko_error_closed)) return NULL;
  Py_RETURN_NONE;
}

PyObject *error_of(int code, const char *text) {
  PyObject *error = NULL, *number = PyLong_FromLong(code);
  /* Peers choose parts of the text: whatever is no UTF-8 must not hide it. */
  PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
  if (number != NULL && message != NULL && classes_by_code != NULL) {
    PyObject *class = PyDict_GetItemWithError(classes_by_code, number);
    if (class == NULL && !PyErr_Occurred()) class = PyExc_RuntimeError; /* a code of a newer library */
    if (class != NULL) error = PyObject_CallFunctionObjArgs(class, message, NULL);
  }
  Py_XDECREF(number);
  Py_XDECREF(message);
  return error;
}

PyObject *raise_text(int code, const char *text) {
  PyObject *error = error_of(code, text);
  if (error != NULL) {
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
  }
  return NULL;
}

PyObject *raise_code(int code) { return raise_text(code, gecko_last_error()); }
