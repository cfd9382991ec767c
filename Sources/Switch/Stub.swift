internal import ControlAPI

extension PortRequest { func validate() throws(ServiceError) {} }
