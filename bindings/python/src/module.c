/* The module gecko._gecko. One interpreter per process: callbacks come from foreign threads, and those can only enter the main interpreter. */
#include "gecko_py.h"

PyTypeObject *socket_type, *server_type, *framework_type, *builtin_policy_type;

static PyObject *version(PyObject *module, PyObject *unused) { return (void)module, (void)unused, PyUnicode_FromString(gecko_version()); }
static PyObject *code_name(PyObject *module, PyObject *code) {
  (void)module;
  const long number = PyLong_AsLong(code);
  if (number == -1 && PyErr_Occurred()) return NULL;
  return PyUnicode_FromString(gecko_code_name((int)number));
}
static PyObject *shut(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  gate_shut();
  Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"version", version, METH_NOARGS, "version()\n--\n\nThe library's version."},
    {"code_name", code_name, METH_O, "code_name(code, /)\n--\n\nOne word for a code."},
    {"set_error_classes", errors_set_classes, METH_O, NULL},
    {"set_types", policy_set_types, METH_VARARGS, NULL},
    {"set_recovery_types", recovery_set_types, METH_VARARGS, NULL},
    {"shut", shut, METH_NOARGS, "shut()\n--\n\nNo callback enters Python from now on; returns when none is inside."},
    {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "gecko._gecko", "libgecko's C interface.", -1, functions, NULL, NULL, NULL, NULL};

static bool add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type) {
  PyObject *made = PyType_FromModuleAndSpec(module, spec, NULL);
  if (made == NULL) return false;
  *type = (PyTypeObject *)made;
  return PyModule_AddType(module, *type) == 0; /* this reference stays ours */
}

__attribute__((visibility("default"))) PyObject *PyInit__gecko(void) {
  PyObject *module = PyModule_Create(&definition);
  if (module == NULL) return NULL;
  if (!add_type(module, &socket_spec, &socket_type) || !add_type(module, &server_spec, &server_type) ||
      !add_type(module, &framework_spec, &framework_type) || !add_type(module, &builtin_policy_spec, &builtin_policy_type)) {
    Py_DECREF(module);
    return NULL;
  }
  remember_main_thread();
  gate_prepare();
  return module;
}
